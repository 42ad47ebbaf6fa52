import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;

/**
 * Reads lines "NAME VERSION HEX" and answers each with what Kafka's own classes make of the message:
 * "ok HEX JSON", written again and as text, or "error TEXT".
 * NAME "?header" parses a request header instead and answers with its fields; "?metadata" a record of the metadata log with its
 * frame; "?group" and "?transaction" a coordinator's record, where HEX is KEY:VALUE.
 */
public final class Echo {
    private static final String[] PACKAGES = {
        "org.apache.kafka.common.message.", "org.apache.kafka.common.metadata.",
        "org.apache.kafka.coordinator.group.generated.", "org.apache.kafka.coordinator.transaction.generated.",
        "org.apache.kafka.coordinator.share.generated.", "org.apache.kafka.raft.generated.",
        "org.apache.kafka.server.log.remote.metadata.storage.generated.",
    };

    public static void main(String[] args) throws Exception {
        var in = new BufferedReader(new InputStreamReader(System.in));
        var out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, "UTF-8");
        for (String line; (line = in.readLine()) != null; ) {
            String[] f = line.split(" ", 3);
            String answer;
            try {
                answer = "ok " + switch (f[0]) {
                    case "?header" -> header(parse(f[2]));
                    case "?metadata" -> metadata(parse(f[2]));
                    case "?group" -> record(new org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde(), f[2]);
                    case "?transaction" -> record(new org.apache.kafka.coordinator.transaction.TransactionCoordinatorRecordSerde(), f[2]);
                    default -> echo(f[0], Short.parseShort(f[1]), parse(f[2]));
                };
            } catch (Throwable e) {
                Throwable cause = e instanceof java.lang.reflect.InvocationTargetException ? e.getCause() : e;
                answer = "error " + String.valueOf(cause).replace('\n', ' ');
            }
            out.print(answer + "\n");
        }
        out.flush();
    }

    private static String echo(String name, short version, ByteBuffer bytes) throws Exception {
        Class<?> type = find(name);
        Message message = (Message) type.getDeclaredConstructor().newInstance();
        message.read(new ByteBufferAccessor(bytes), version);
        if (bytes.hasRemaining()) throw new IllegalStateException(bytes.remaining() + " bytes left over");
        ByteBuffer again = MessageUtil.toByteBufferAccessor(message, version).buffer();
        return hex(again) + " " + json(type, message, version);
    }

    private static JsonNode json(Class<?> type, Message message, short version) throws Exception {
        Method write = Class.forName(type.getName() + "JsonConverter").getMethod("write", type, short.class);
        return (JsonNode) write.invoke(null, message, version);
    }

    private static Class<?> find(String name) throws ClassNotFoundException {
        for (String p : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    return Class.forName(p + name + suffix);
                } catch (ClassNotFoundException | NoClassDefFoundError e) {
                    // the next package
                }
            }
        }
        throw new ClassNotFoundException(name);
    }

    private static ByteBuffer parse(String hex) {
        return ByteBuffer.wrap(HexFormat.of().parseHex(hex));
    }

    private static String hex(ByteBuffer bytes) {
        byte[] copy = new byte[bytes.remaining()];
        bytes.get(copy);
        return HexFormat.of().formatHex(copy);
    }

    private static String metadata(ByteBuffer bytes) {
        var serde = org.apache.kafka.metadata.MetadataRecordSerde.INSTANCE;
        var record = serde.read(new ByteBufferAccessor(bytes), bytes.remaining());
        var cache = new org.apache.kafka.common.protocol.ObjectSerializationCache();
        var out = new ByteBufferAccessor(ByteBuffer.allocate(serde.recordSize(record, cache)));
        serde.write(record, cache, out);
        out.buffer().flip();
        return hex(out.buffer());
    }

    private static String record(org.apache.kafka.coordinator.common.runtime.CoordinatorRecordSerde serde, String hex) {
        String[] parts = hex.split(":");
        var record = serde.deserialize(parse(parts[0]), parse(parts[1]));
        return HexFormat.of().formatHex(serde.serializeKey(record)) + ":" + HexFormat.of().formatHex(serde.serializeValue(record));
    }

    private static String header(ByteBuffer bytes) {
        var h = org.apache.kafka.common.requests.RequestHeader.parse(bytes);
        return h.apiKey().id + " " + h.apiVersion() + " " + h.correlationId() + " " + h.clientId() + " " + bytes.remaining()
            + " " + h.apiKey().responseHeaderVersion(h.apiVersion());
    }
}
