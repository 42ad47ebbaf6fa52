import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Topics of Dafka producers, and for Dafka consumers: {@code Dafka read BOOTSTRAP TOPIC COUNT} or {@code Dafka write BOOTSTRAP TOPIC}. */
public class Dafka {
  static String bootstrap;

  public static void main(String[] args) throws Exception {
    bootstrap = args[1];
    if (args[0].equals("read")) {
      read(args[2], Integer.parseInt(args[3]));
    } else {
      write(args[2]);
    }
    System.exit(0);
  }

  /** Prints the producers that the topic's configuration names, and its records; and is not let write. */
  static void read(String topic, int count) throws Exception {
    try (Admin admin = Admin.create(properties());
        var consumer = new KafkaConsumer<>(properties(), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
      System.out.println("# producers");
      System.out.println(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("dafka.producers").value());
      List<TopicPartition> all = new ArrayList<>();
      consumer.partitionsFor(topic).forEach(p -> all.add(new TopicPartition(topic, p.partition())));
      consumer.assign(all);
      consumer.seekToBeginning(all);
      System.out.println("# records");
      for (int got = 0; got < count; ) {
        for (var r : consumer.poll(Duration.ofSeconds(60))) {
          System.out.println(r.partition() + " " + r.offset() + " " + r.key() + " " + new String(r.value(), StandardCharsets.UTF_8));
          got++;
        }
      }
    }
    Properties p = properties();
    p.put("transactional.id", "dafka");
    for (Properties x : List.of(properties(), p)) {
      try (var producer = new KafkaProducer<>(x, new ByteArraySerializer(), new ByteArraySerializer())) {
        boolean transactional = x.containsKey("transactional.id");
        if (transactional) {
          producer.initTransactions();
          producer.beginTransaction();
        }
        try {
          producer.send(new ProducerRecord<>(topic, new byte[1])).get();
          throw new AssertionError("anybody can write to " + topic);
        } catch (ExecutionException e) {
          if (!(e.getCause() instanceof PolicyViolationException)) {
            throw e;
          }
        }
        if (transactional) {
          producer.abortTransaction();
        }
      }
    }
  }

  /** Makes a topic for Dafka consumers and writes 0 1, and in transactions 2 3, which is committed, 4, which is not, and 5. */
  static void write(String topic) throws Exception {
    try (Admin admin = Admin.create(properties())) {
      admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("dafka.publish", "true")))).all().get();
    }
    try (var producer = new KafkaProducer<>(properties(), new ByteArraySerializer(), new ByteArraySerializer())) {
      send(producer, topic, "0", "1");
    }
    Properties p = properties();
    p.put("transactional.id", "dafka-write");
    p.put("compression.type", "zstd");
    try (var producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
      producer.initTransactions();
      producer.beginTransaction();
      send(producer, topic, "2", "3");
      producer.commitTransaction();
      producer.beginTransaction();
      send(producer, topic, "4");
      producer.abortTransaction();
      producer.beginTransaction();
      send(producer, topic, "5");
      producer.commitTransaction();
    }
  }

  static void send(KafkaProducer<byte[], byte[]> producer, String topic, String... values) throws Exception {
    for (String v : values) {
      producer.send(new ProducerRecord<>(topic, "key".getBytes(StandardCharsets.UTF_8), v.getBytes(StandardCharsets.UTF_8))).get();
    }
  }

  static Properties properties() {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    return p;
  }
}
