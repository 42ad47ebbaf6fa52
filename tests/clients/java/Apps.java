import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.connect.cli.ConnectStandalone;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/**
 * A word count of Kafka Streams in two instances, and Kafka Connect from a file into a topic and out to a file: {@code Apps BOOTSTRAP DIRECTORY}.
 * Twice it says "half" amid the work, and waits for a line of input: the broker is started again.
 */
public class Apps {
  static final int LINES = 200; // Before each restart, and after the last.
  static final int RESTARTS = 2;
  static final int PARTITIONS = 3;
  static final Duration PATIENCE = Duration.ofSeconds(80);

  static String bootstrap;
  static Path dir;

  public static void main(String[] args) throws Exception {
    bootstrap = args[0];
    dir = Path.of(args[1]);
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
      admin.createTopics(List.of(new NewTopic("lines", PARTITIONS, (short) 1), new NewTopic("counts", PARTITIONS, (short) 1), new NewTopic("connected", 1, (short) 1))).all().get();
    }
    Files.createFile(dir.resolve("in.txt"));
    connect();
    var instances = List.of(wordCount("a"), wordCount("b"));
    var in = new BufferedReader(new InputStreamReader(System.in));
    try (var producer = new KafkaProducer<>(properties(), new StringSerializer(), new StringSerializer()); var counts = counts()) {
      var got = new TreeMap<String, List<Long>>();
      for (int i = 0; i <= RESTARTS; i++) {
        for (int n = i * LINES; n < (i + 1) * LINES; n++) {
          producer.send(new ProducerRecord<>("lines", n % PARTITIONS, null, line(n)));
          Files.writeString(dir.resolve("in.txt"), line(n) + "\n", StandardOpenOption.APPEND);
        }
        producer.flush();
        read(counts, got, 3 * (i == RESTARTS ? (i + 1) * LINES : i * LINES + LINES / 10));
        awaitFile(i == RESTARTS ? (i + 1) * LINES : i * LINES + 1);
        if (i < RESTARTS) {
          System.out.println("half");
          in.readLine();
        }
      }
      int total = (RESTARTS + 1) * LINES;
      for (var e : expected(total).entrySet()) {
        want("counts of " + e.getKey(), got.get(e.getKey()), IntStream.rangeClosed(1, e.getValue()).mapToObj(Long::valueOf).toList());
      }
      var surplus = counts.poll(Duration.ofSeconds(1));
      want("surplus counts", surplus.count(), 0);
      // A sink may repeat what it could not commit, but it neither loses nor mixes.
      want("the file", new ArrayList<>(new LinkedHashSet<>(Files.readAllLines(dir.resolve("out.txt")))), IntStream.range(0, total).mapToObj(Apps::line).toList());
    }
    instances.forEach(s -> want("closed", s.close(PATIENCE), true));
    System.out.println("# done");
    Runtime.getRuntime().halt(0); // Connect would take its time.
  }

  /** Each line has three words. */
  static String line(int n) {
    return "n" + n + " mod" + n % 7 + " all";
  }

  static Map<String, Integer> expected(int total) {
    var all = new TreeMap<String, Integer>();
    for (int n = 0; n < total; n++) {
      for (String word : line(n).split(" ")) {
        all.merge(word, 1, Integer::sum);
      }
    }
    return all;
  }

  static KafkaStreams wordCount(String instance) {
    var b = new StreamsBuilder();
    b.<String, String>stream("lines")
        .flatMapValues(l -> Arrays.asList(l.split(" ")))
        .groupBy((key, word) -> word)
        .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("store")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
        .toStream()
        .to("counts", Produced.with(Serdes.String(), Serdes.Long()));
    Properties p = properties();
    p.put("application.id", "word-count");
    p.put("client.id", instance);
    p.put("processing.guarantee", "exactly_once_v2");
    p.put("default.key.serde", Serdes.StringSerde.class);
    p.put("default.value.serde", Serdes.StringSerde.class);
    p.put("state.dir", dir.resolve("state-" + instance).toString());
    p.put("statestore.cache.max.bytes", "0"); // Every count goes out.
    p.put("commit.interval.ms", "100");
    p.put("replication.factor", "1");
    p.put("auto.offset.reset", "earliest");
    p.put("heartbeat.interval.ms", "300");
    p.put("log.summary.interval.ms", "-1");
    var streams = new KafkaStreams(b.build(), p);
    streams.setUncaughtExceptionHandler(e -> {
      fail(e);
      return null;
    });
    streams.start();
    return streams;
  }

  static void connect() throws Exception {
    Path worker = file("worker.properties", "bootstrap.servers=" + bootstrap, "plugin.discovery=service_load", "plugin.path=" + Files.createDirectory(dir.resolve("plugins")),
        "key.converter=org.apache.kafka.connect.storage.StringConverter", "value.converter=org.apache.kafka.connect.storage.StringConverter",
        "offset.storage.file.filename=" + dir.resolve("offsets"), "offset.flush.interval.ms=500", "listeners=http://127.0.0.1:0", "producer.enable.idempotence=true",
        "consumer.metadata.recovery.strategy=none");
    Path source = file("source.properties", "name=source", "connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max=1",
        "file=" + dir.resolve("in.txt"), "topic=connected");
    Path sink = file("sink.properties", "name=sink", "connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max=1",
        "file=" + dir.resolve("out.txt"), "topics=connected");
    var t = new Thread(() -> ConnectStandalone.main(new String[] {worker.toString(), source.toString(), sink.toString()}));
    t.setDaemon(true);
    t.start();
  }

  static Path file(String name, String... lines) throws Exception {
    return Files.write(dir.resolve(name), List.of(lines));
  }

  static void awaitFile(int lines) throws Exception {
    Path out = dir.resolve("out.txt");
    for (long end = System.nanoTime() + PATIENCE.toNanos(); !Files.exists(out) || new LinkedHashSet<>(Files.readAllLines(out)).size() < lines; Thread.sleep(50)) {
      if (System.nanoTime() > end) {
        fail(new AssertionError("the sink has written " + (Files.exists(out) ? Files.readAllLines(out).size() : 0) + " lines, want " + lines));
      }
    }
  }

  static Properties properties() {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    return p;
  }

  static KafkaConsumer<String, Long> counts() {
    Properties p = properties();
    p.put("isolation.level", "read_committed");
    p.put("auto.offset.reset", "earliest");
    var c = new KafkaConsumer<>(p, new StringDeserializer(), new LongDeserializer());
    c.assign(IntStream.range(0, PARTITIONS).mapToObj(i -> new TopicPartition("counts", i)).toList());
    return c;
  }

  static void read(KafkaConsumer<String, Long> c, Map<String, List<Long>> into, int count) {
    for (long end = System.nanoTime() + PATIENCE.toNanos(); size(into) < count;) {
      for (var r : c.poll(Duration.ofMillis(100))) {
        into.computeIfAbsent(r.key(), k -> new ArrayList<>()).add(r.value());
      }
      if (System.nanoTime() > end) {
        fail(new AssertionError(size(into) + " counts in time, want " + count));
      }
    }
  }

  static int size(Map<String, List<Long>> m) {
    return m.values().stream().mapToInt(List::size).sum();
  }

  static void want(String what, Object got, Object want) {
    if (got == null ? want != null : !got.equals(want)) {
      fail(new AssertionError(what + ": " + got + ", want " + want));
    }
  }

  static void fail(Throwable e) {
    e.printStackTrace();
    System.err.flush();
    Runtime.getRuntime().halt(1);
  }
}
