import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

/** Runs tools of Apache Kafka one after the other in one machine: a line of input is class and arguments, tabs between; a line "done STATUS" ends its output. */
public class GroupTools {
  static class Ended extends RuntimeException {
    final int status;

    Ended(int status) {
      this.status = status;
    }
  }

  public static void main(String[] unused) throws Exception {
    Exit.setExitProcedure((status, message) -> {
      throw new Ended(status);
    });
    Exit.setHaltProcedure((status, message) -> {
      throw new Ended(status);
    });
    System.setErr(System.out);
    var in = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = in.readLine()) != null;) {
      String[] words = line.split("\t", -1);
      int status = 0;
      try {
        Class.forName(words[0]).getMethod("main", String[].class).invoke(null, (Object) Arrays.copyOfRange(words, 1, words.length));
      } catch (InvocationTargetException e) {
        if (e.getCause() instanceof Ended ended) {
          status = ended.status;
        } else {
          e.getCause().printStackTrace();
          status = 1;
        }
      }
      System.out.println("\ndone " + status);
      System.out.flush();
    }
  }
}
