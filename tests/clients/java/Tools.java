import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs command line tools of Apache Kafka one after the other in one Java machine, which is most of what each would cost alone. A
 * line of the input is a class and its arguments with tabs between; "# code" and what the tool printed come out.
 */
public class Tools {
  static ByteArrayOutputStream printed;

  /** What a tool wanted to end the machine with, null before it did, and what it had printed by then. */
  static Integer code;
  static String result;

  public static void main(String[] args) throws Exception {
    Exit.setExitProcedure((c, message) -> end(c));
    Exit.setHaltProcedure((c, message) -> end(c));
    var in = new BufferedReader(new InputStreamReader(System.in));
    PrintStream out = System.out;
    for (String line; (line = in.readLine()) != null; ) {
      String[] words = line.split("\t", -1);
      printed = new ByteArrayOutputStream();
      code = null;
      var to = new PrintStream(printed, true);
      System.setOut(to);
      System.setErr(to);
      // Scala prints to where standard output was when it began.
      int ended = scala.Console.withOut(to, () -> run(words[0], Arrays.copyOfRange(words, 1, words.length)));
      if (code == null) {
        result = printed.toString();
      }
      out.println("# " + ended);
      for (String l : result.split("\n")) {
        out.println("| " + l);
      }
      out.flush();
    }
    System.exit(0);
  }

  /** Some tools catch what they throw to end, tell of it and end a second time: the first counts. */
  static void end(int c) {
    if (code == null) {
      code = c;
      result = printed.toString();
    }
    throw new IllegalStateException("the tool has ended");
  }

  static int run(String type, String[] args) {
    try {
      Class.forName(type).getMethod("main", String[].class).invoke(null, (Object) args);
    } catch (InvocationTargetException e) {
      if (code == null) {
        e.getCause().printStackTrace();
        return 1;
      }
    } catch (ReflectiveOperationException e) {
      e.printStackTrace();
      return 2;
    }
    return code == null ? 0 : code;
  }
}
