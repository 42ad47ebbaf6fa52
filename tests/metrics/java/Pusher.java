import java.util.Properties;

import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes a record every few milliseconds for some seconds, and pushes its metrics as every Java client does by default. */
public class Pusher {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("client.id", "the-secret-name-of-a-client");
        p.put("key.serializer", StringSerializer.class.getName());
        p.put("value.serializer", StringSerializer.class.getName());
        long end = System.currentTimeMillis() + Long.parseLong(args[2]);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
            while (System.currentTimeMillis() < end) {
                producer.send(new ProducerRecord<>(args[1], "x")).get();
                Thread.sleep(5);
            }
        }
    }
}
