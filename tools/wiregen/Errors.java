import org.apache.kafka.common.errors.RetriableException;

/** Prints Kafka's error codes: code, name, retriable, default message; tabs between. */
public final class Errors {
    public static void main(String[] args) {
        var all = org.apache.kafka.common.protocol.Errors.values();
        java.util.Arrays.sort(all, java.util.Comparator.comparingInt(e -> e.code()));
        for (var e : all) {
            String message = e.message();
            if (message.indexOf('\t') >= 0 || message.indexOf('\n') >= 0) throw new IllegalStateException(e.name());
            System.out.print(e.code() + "\t" + e.name() + "\t" + (e.exception() instanceof RetriableException) + "\t" + message + "\n");
        }
    }
}
