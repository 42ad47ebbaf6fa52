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
 * NAME "?header" parses a request header instead and answers with its fields.
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
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(f[2]));
            String answer;
            try {
                answer = "ok " + (f[0].equals("?header") ? header(bytes) : echo(f[0], Short.parseShort(f[1]), bytes));
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
        byte[] copy = new byte[again.remaining()];
        again.get(copy);
        return HexFormat.of().formatHex(copy) + " " + json(type, message, version);
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

    private static String header(ByteBuffer bytes) {
        var h = org.apache.kafka.common.requests.RequestHeader.parse(bytes);
        return h.apiKey().id + " " + h.apiVersion() + " " + h.correlationId() + " " + h.clientId() + " " + bytes.remaining()
            + " " + h.apiKey().responseHeaderVersion(h.apiVersion());
    }
}
