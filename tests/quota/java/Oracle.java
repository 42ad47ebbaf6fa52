import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.common.metrics.MetricConfig;
import org.apache.kafka.common.metrics.Metrics;
import org.apache.kafka.common.metrics.Quota;
import org.apache.kafka.common.metrics.QuotaViolationException;
import org.apache.kafka.common.metrics.Sensor;
import org.apache.kafka.common.metrics.stats.Rate;
import org.apache.kafka.common.metrics.stats.TokenBucket;

/**
 * Tells how long Kafka's own classes make a client wait. A line of input is: rate, permissive or strict; samples; seconds
 * a sample; bound; then time and value of each use. A line of output has one wait in milliseconds for each use.
 */
public class Oracle {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.append(waits(line.split(" "))).append('\n');
        }
        System.out.print(out);
    }

    private static String waits(String[] words) {
        double bound = Double.parseDouble(words[3]);
        MetricConfig config = new MetricConfig()
            .samples(Integer.parseInt(words[1]))
            .timeWindow(Integer.parseInt(words[2]), TimeUnit.SECONDS)
            .quota(new Quota(bound, true));
        Metrics metrics = new Metrics();
        Sensor sensor = metrics.sensor("s");
        Rate rate = new Rate();
        if (words[0].equals("rate")) {
            sensor.add(metrics.metricName("m", "g"), rate, config);
        } else {
            sensor.add(metrics.metricName("m", "g"), new TokenBucket(), config);
        }
        StringBuilder out = new StringBuilder();
        for (int i = 4; i < words.length; i += 2) {
            long now = Long.parseLong(words[i]);
            double value = Double.parseDouble(words[i + 1]);
            out.append(wait(words[0], sensor, rate, config, now, value)).append(' ');
        }
        metrics.close();
        return out.toString().trim();
    }

    private static long wait(String kind, Sensor sensor, Rate rate, MetricConfig config, long now, double value) {
        try {
            if (kind.equals("strict")) {
                sensor.checkQuotas(now);
                sensor.record(value, now, false);
            } else {
                sensor.record(value, now, true);
            }
            return 0;
        } catch (QuotaViolationException e) {
            if (!kind.equals("rate")) {
                return Math.round(-e.value() / e.bound() * 1000);
            }
            return Math.round((e.value() - e.bound()) / e.bound() * rate.windowSize(config, now));
        }
    }
}
