import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's Java client at work: {@code Client SCENARIO BOOTSTRAP [TOPIC]}. Exits with 1 where it was disappointed. */
public class Client {
  static final int SAMPLES = 60;
  static final int LARGE_INDEX = 50;
  static final int LARGE_BYTES = 900_000;
  static final long FIRST_TIME = 1700000000000L;
  static final int PARTITIONS = 2;
  static final Duration PATIENCE = Duration.ofSeconds(60);

  static String bootstrap;

  public static void main(String[] args) throws Exception {
    bootstrap = args[1];
    switch (args[0]) {
      case "admin" -> admin();
      case "matrix" -> matrix();
      case "read" -> read(args[2]);
      case "restart" -> restart(args[2]);
      case "large" -> large(args[2]);
      default -> throw new IllegalArgumentException(args[0]);
    }
    System.exit(0);
  }

  /** Topics and configurations. */
  static void admin() throws Exception {
    try (Admin admin = Admin.create(properties())) {
      NewTopic topic = new NewTopic("java-topic", 3, (short) 1).configs(Map.of("retention.ms", "1234567"));
      var created = admin.createTopics(List.of(topic));
      want("partitions", created.numPartitions("java-topic").get(), 3);
      want("config of the created", created.config("java-topic").get().get("retention.ms").value(), "1234567");
      wantCause(TopicExistsException.class, admin.createTopics(List.of(topic)).all());
      want("listed", admin.listTopics().names().get().contains("java-topic"), true);
      var described = admin.describeTopics(List.of("java-topic")).allTopicNames().get().get("java-topic");
      want("described", described.partitions().size(), 3);
      want("leader", described.partitions().get(2).leader().id(), 1);
      var byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(described.topicId())));
      want("by id", byId.allTopicIds().get().get(described.topicId()).name(), "java-topic");
      var resource = new ConfigResource(ConfigResource.Type.TOPIC, "java-topic");
      var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
      want("config", config.get("retention.ms").value(), "1234567");
      want("default", config.get("cleanup.policy").isDefault(), true);
      want("nodes", admin.describeCluster().nodes().get().size(), 1);
      want("controller", admin.describeCluster().controller().get().id(), 1);
      var partition = new TopicPartition("java-topic", 0);
      want("end", admin.listOffsets(Map.of(partition, OffsetSpec.latest())).all().get().get(partition).offset(), 0L);
      admin.deleteTopics(List.of("java-topic")).all().get();
      wantCause(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of("java-topic")).all());
    }
  }

  /** The samples with every codec and every acks. */
  static void matrix() throws Exception {
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      for (String acks : List.of("0", "1", "all", "idempotent")) {
        try (var producer = producer(codec, acks)) {
          String topic = "java-" + codec + "-" + acks;
          System.err.println(topic);
          for (int from = 0; from < SAMPLES; from += 20) {
            write(producer, topic, from, from + 20, !acks.equals("0"));
          }
        }
      }
    }
  }

  /** Prints what a topic holds: all, from an offset, from a time. */
  static void read(String topic) throws Exception {
    try (var consumer = consumer()) {
      var p0 = new TopicPartition(topic, 0);
      var p1 = new TopicPartition(topic, 1);
      consumer.assign(List.of(p0, p1));
      consumer.seekToBeginning(List.of(p0, p1));
      print("all", poll(consumer, SAMPLES));
      consumer.assign(List.of(p1));
      consumer.seek(p1, 7);
      print("offset", poll(consumer, SAMPLES / 2 - 7));
      var at = consumer.offsetsForTimes(Map.of(p1, FIRST_TIME + 20_001)).get(p1);
      want("time found", at.timestamp(), FIRST_TIME + 21_000);
      consumer.seek(p1, at.offset());
      print("time", poll(consumer, SAMPLES / 2 - 10));
      want("nothing after the end", consumer.offsetsForTimes(Map.of(p1, FIRST_TIME * 2)).get(p1), null);
      want("ends", consumer.endOffsets(Set.of(p0, p1)), Map.of(p0, 30L, p1, 30L));
      want("partitions", consumer.partitionsFor(topic).size(), PARTITIONS);
    }
  }

  /** An idempotent producer and a consumer, while the broker is started again between two lines of the input. */
  static void restart(String topic) throws Exception {
    var in = new BufferedReader(new InputStreamReader(System.in));
    try (var producer = producer("lz4", "idempotent"); var consumer = consumer()) {
      List<TopicPartition> all = new ArrayList<>();
      for (int p = 0; p < PARTITIONS; p++) {
        all.add(new TopicPartition(topic, p));
      }
      consumer.assign(all);
      consumer.seekToBeginning(all);
      write(producer, topic, 0, SAMPLES / 2, true);
      var records = poll(consumer, SAMPLES / 2);
      System.out.println("half");
      in.readLine();
      write(producer, topic, SAMPLES / 2, SAMPLES, true);
      records.addAll(poll(consumer, SAMPLES / 2));
      print("all", records);
    }
  }

  /** A batch larger than the topic takes. */
  static void large(String topic) throws Exception {
    Properties p = properties();
    p.put("max.request.size", 4 << 20);
    try (var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
      wantCause(RecordTooLargeException.class, producer.send(new ProducerRecord<>(topic, new byte[2 << 20])));
    }
  }

  static Properties properties() {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    return p;
  }

  static KafkaProducer<byte[], byte[]> producer(String codec, String acks) {
    Properties p = properties();
    p.put("compression.type", codec);
    p.put("enable.idempotence", acks.equals("idempotent"));
    p.put("acks", acks.equals("idempotent") ? "all" : acks);
    return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
  }

  static KafkaConsumer<byte[], byte[]> consumer() {
    return new KafkaConsumer<>(properties(), new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  static void write(KafkaProducer<byte[], byte[]> producer, String topic, int from, int to, boolean acknowledged) throws Exception {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    for (int i = from; i < to; i++) {
      sent.add(producer.send(sample(topic, i)));
    }
    producer.flush();
    long last = -1;
    for (var s : sent) {
      RecordMetadata m = s.get();
      if (acknowledged && m.partition() == 0) {
        want("offsets rise", m.offset() > last, true);
        last = m.offset();
      }
    }
  }

  /** The i-th record that all clients write. */
  static ProducerRecord<byte[], byte[]> sample(String topic, int i) {
    byte[] key = switch (i % 3) {
      case 1 -> new byte[0];
      case 2 -> ("k" + i).getBytes();
      default -> null;
    };
    byte[] value = null;
    if (i == LARGE_INDEX) {
      value = new byte[LARGE_BYTES];
      for (int j = 0; j < value.length; j++) {
        value[j] = (byte) ((long) j * j % 251);
      }
    } else if (i % 4 == 1) {
      value = new byte[0];
    } else if (i % 4 == 2) {
      value = ("v" + i).getBytes();
    } else if (i % 4 == 3) {
      value = new byte[i * 37 % 5000];
      Arrays.fill(value, (byte) ('a' + i % 26));
    }
    var record = new ProducerRecord<>(topic, i % PARTITIONS, FIRST_TIME + i * 1000L, key, value);
    if (i % 2 == 1) {
      record.headers().add("h", String.valueOf(i).getBytes()).add("empty", new byte[0]);
    }
    return record;
  }

  static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
    List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
    long end = System.nanoTime() + PATIENCE.toNanos();
    while (records.size() < count) {
      want("more records in time", System.nanoTime() < end, true);
      consumer.poll(Duration.ofMillis(100)).forEach(records::add);
    }
    return records;
  }

  static void print(String title, List<ConsumerRecord<byte[], byte[]>> records) throws Exception {
    records.sort((a, b) -> a.partition() != b.partition() ? a.partition() - b.partition() : Long.compare(a.offset(), b.offset()));
    System.out.println("# " + title);
    for (var r : records) {
      List<String> headers = new ArrayList<>();
      for (Header h : r.headers()) {
        headers.add(h.key() + "=" + digest(h.value()));
      }
      System.out.printf("%d %d %d %s %s [%s]%n", r.partition(), r.offset(), r.timestamp(), digest(r.key()), digest(r.value()), String.join(",", headers));
    }
  }

  static String digest(byte[] b) throws Exception {
    if (b == null) {
      return "-";
    }
    byte[] sum = MessageDigest.getInstance("SHA-256").digest(b);
    return String.format("%d:%02x%02x%02x%02x", b.length, sum[0], sum[1], sum[2], sum[3]);
  }

  static void want(String what, Object got, Object want) {
    if (got == null ? want != null : !got.equals(want)) {
      System.err.println(what + ": " + got + ", want " + want);
      System.exit(1);
    }
  }

  static void wantCause(Class<?> cause, Future<?> future) throws InterruptedException {
    try {
      future.get();
      want("an error", null, cause);
    } catch (ExecutionException e) {
      want("error", e.getCause().getClass(), cause);
    }
  }
}
