import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Phaser;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Groups of both protocols and transactions of Apache Kafka's Java client: {@code Groups BOOTSTRAP}. All scenarios run at once; then those with
 * restarts, which say "half" and wait for a line of input. It prints what each group's generations and callbacks came to, and exits with 1 where
 * it was disappointed.
 */
public class Groups {
  static final Duration PATIENCE = Duration.ofSeconds(80);
  static final String SESSION_MILLIS = "6000"; // The least that brokers take.

  static String bootstrap;
  static Admin admin;

  /** A group protocol with an assignor. */
  record Protocol(String name, Map<String, String> settings) {
    boolean isClassic() {
      return settings.get("group.protocol").equals("classic");
    }
  }

  static final List<Protocol> PROTOCOLS = List.of(
      new Protocol("eager", Map.of("group.protocol", "classic", "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor")),
      new Protocol("cooperative", Map.of("group.protocol", "classic", "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor")),
      new Protocol("uniform", Map.of("group.protocol", "consumer")),
      new Protocol("range", Map.of("group.protocol", "consumer", "group.remote.assignor", "range")));

  interface Scenario {
    void run() throws Exception;
  }

  public static void main(String[] args) throws Exception {
    bootstrap = args[0];
    admin = Admin.create(properties());
    List<Scenario> steady = new ArrayList<>();
    List<Scenario> restarted = new ArrayList<>();
    for (Protocol p : PROTOCOLS) {
      steady.add(() -> membership(p));
      steady.add(() -> staticMembers(p));
      steady.add(() -> commits(p));
      steady.add(() -> regex(p));
      steady.add(() -> transactions(p));
      restarted.add(() -> groupOverRestarts(p));
      restarted.add(() -> transactionsOverRestarts(p));
    }
    steady.add(Groups::fencing);
    steady.add(Groups::migration);
    all(steady);
    halves.bulkRegister(restarted.size() + 1);
    var in = new BufferedReader(new InputStreamReader(System.in));
    var restarts = new Thread(() -> {
      for (int i = 0; i < RESTARTS; i++) {
        halves.arriveAndAwaitAdvance();
        synchronized (System.out) {
          System.out.println("# restarts");
          System.out.println("half");
        }
        try {
          in.readLine();
        } catch (Exception e) {
          fail(e);
        }
        halves.arriveAndAwaitAdvance();
      }
    });
    restarts.start();
    all(restarted);
    restarts.join();
    System.exit(0);
  }

  static final int RESTARTS = 2;
  static final Phaser halves = new Phaser();

  /** Waits until all scenarios are here, and the broker was started again. */
  static void restart() {
    halves.arriveAndAwaitAdvance();
    halves.arriveAndAwaitAdvance();
  }

  static void all(List<Scenario> scenarios) throws Exception {
    List<Thread> threads = new ArrayList<>();
    for (Scenario s : scenarios) {
      var t = new Thread(() -> {
        try {
          s.run();
        } catch (Throwable e) {
          fail(e);
        }
      });
      t.start();
      threads.add(t);
    }
    for (Thread t : threads) {
      t.join();
    }
  }

  /** Members come and go one after the other; each record is read once. */
  static void membership(Protocol p) throws Exception {
    String name = "membership-" + p.name();
    topic(name, 6);
    produce(name, 6, 0, 120);
    var g = new Group(name, p, Map.of());
    Member m1 = g.join();
    g.settle("one", 6);
    Member m2 = g.join();
    g.settle("two", 3, 3);
    Member m3 = g.join();
    g.settle("three", 2, 2, 2);
    produce(name, 6, 120, 240);
    await("240 records, not " + g.count(), () -> g.count() == 240);
    m3.leave();
    g.settle("two left", 3, 3);
    m2.leave();
    g.settle("one left", 6);
    produce(name, 6, 240, 300);
    await("300 records", () -> g.count() == 300);
    m1.leave();
    g.wantOnce(300);
    want(name + " committed", committed(name), 300L);
    want(name + " lost", m1.lost.get() + m2.lost.get() + m3.lost.get(), 0);
    if (p.isClassic()) {
      g.report("callbacks %d %d %d", m1.assigned.get(), m2.assigned.get(), m3.assigned.get());
    } else { // They may be told in one heartbeat or two.
      g.report("done");
    }
  }

  /** A static member goes and comes back: nobody notices. Another one with its name does not get both going. */
  static void staticMembers(Protocol p) throws Exception {
    String name = "static-" + p.name();
    topic(name, 4);
    Map<String, String> further = new HashMap<>();
    if (p.isClassic()) {
      further.put("session.timeout.ms", SESSION_MILLIS);
    } else {
      var config = new ConfigResource(ConfigResource.Type.GROUP, name);
      admin.incrementalAlterConfigs(Map.of(config, List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", SESSION_MILLIS), AlterConfigOp.OpType.SET)))).all().get();
    }
    var g = new Group(name, p, further);
    Member a = g.join(Map.of("group.instance.id", "a"));
    g.settle("a", 4);
    Member b = g.join(Map.of("group.instance.id", "b"));
    g.settle("a and b", 2, 2);
    Set<TopicPartition> had = b.owned;
    int callbacks = a.assigned.get();
    b.leave();
    Member again = g.join(Map.of("group.instance.id", "b"));
    g.settle("b is back", 2, 2);
    want(name + " given back", again.owned, had);
    want(name + " callbacks of the other", a.assigned.get(), callbacks);

    Member twin = g.join(Map.of("group.instance.id", "a"));
    if (p.isClassic()) {
      await(name + " fenced", () -> a.failure instanceof FencedInstanceIdException);
      g.settle("a is another", 2, 2);
    } else {
      await(name + " refused", () -> twin.failure instanceof UnreleasedInstanceIdException);
      want(name + " goes on", a.failure, null);
    }
    long began = System.nanoTime();
    again.leave();
    g.settle("b is gone", 4);
    long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began);
    want(name + " expired after its session, not after " + took, took > 4000, true);
    g.leave();
    g.report("done");
  }

  /** Offsets: committed with metadata, asynchronously, by nobody's member, by a stranger; found by time. */
  static void commits(Protocol p) throws Exception {
    String name = "commits-" + p.name();
    topic(name, 2);
    produce(name, 2, 0, 100);
    var p0 = new TopicPartition(name, 0);
    var p1 = new TopicPartition(name, 1);
    try (var c = consumer(name, p, Map.of())) {
      c.subscribe(List.of(name));
      want(name + " read", poll(c, 100).size(), 100);
      c.commitSync(Map.of(p0, new OffsetAndMetadata(10, "half, perhaps"), p1, new OffsetAndMetadata(50)));
      var at = c.committed(Set.of(p0, p1));
      want(name + " offset", at.get(p0).offset(), 10L);
      want(name + " metadata", at.get(p0).metadata(), "half, perhaps");
      want(name + " offset", at.get(p1).offset(), 50L);
      var done = new CompletableFuture<Map<TopicPartition, OffsetAndMetadata>>();
      c.commitAsync(Map.of(p0, new OffsetAndMetadata(20)), (offsets, e) -> {
        if (e != null) {
          done.completeExceptionally(e);
        } else {
          done.complete(offsets);
        }
      });
      for (long end = System.nanoTime() + PATIENCE.toNanos(); !done.isDone(); c.poll(Duration.ofMillis(20))) {
        want(name + " called back", System.nanoTime() < end, true);
      }
      want(name + " asynchronously", done.get().get(p0).offset(), 20L);
      want(name + " offset", c.committed(Set.of(p0)).get(p0).offset(), 20L);
      // Record 31 is partition 1's 16th.
      long offset = c.offsetsForTimes(Map.of(p1, FIRST_TIME + 30_001)).get(p1).offset();
      want(name + " by time", offset, 15L);
      c.seek(p1, offset);
      want(name + " sought", poll(c, 35).get(0).value(), "31");
      // A stranger to the group is not to commit for it.
      try (var stranger = consumer(name, p, Map.of())) {
        stranger.assign(List.of(p0));
        wantThrown(name + " stranger", CommitFailedException.class, () -> stranger.commitSync(Map.of(p0, new OffsetAndMetadata(1))));
      }
    }
    try (var c = consumer(name, p, Map.of())) {
      c.subscribe(List.of(name));
      var read = poll(c, 30);
      want(name + " goes on", read.get(0).value() + " of " + read.get(0).partition(), "40 of 0");
    }
    // Nobody is in the group any more: whoever wants may commit.
    try (var c = consumer(name, p, Map.of())) {
      c.assign(List.of(p0));
      c.commitSync(Map.of(p0, new OffsetAndMetadata(44)));
      want(name + " assigned", c.committed(Set.of(p0)).get(p0).offset(), 44L);
    }
    try (var c = consumer(name, p, Map.of("enable.auto.commit", "true", "auto.commit.interval.ms", "100"))) {
      c.subscribe(List.of(name));
      want(name + " the rest", poll(c, 6).size(), 6);
    }
    want(name + " committed by closing", committed(name), 100L);
    try (var c = consumer(name + "-none", p, Map.of("auto.offset.reset", "none"))) {
      c.subscribe(List.of(name));
      wantThrown(name + " without offsets", NoOffsetForPartitionException.class, () -> {
        for (long end = System.nanoTime() + PATIENCE.toNanos(); System.nanoTime() < end;) {
          c.poll(Duration.ofMillis(100));
        }
      });
    }
  }

  /** A pattern finds topics, and those that are made later. */
  static void regex(Protocol p) throws Exception {
    String name = "regex-" + p.name();
    topic(name + ".a", 1);
    topic(name + ".b", 1);
    topic("not-" + name + ".c", 1);
    var g = new Group(name, p, Map.of("metadata.max.age.ms", "500"));
    Member m = g.join(c -> c.subscribe(Pattern.compile("regex-" + p.name() + "\\..*"), g.listener));
    g.settle("two topics", 2);
    topic(name + ".c", 1);
    g.settle("three topics", 3);
    m.leave();
    if (!p.isClassic()) { // The broker looks for the topics.
      Member s = g.join(c -> c.subscribe(new SubscriptionPattern("regex-" + p.name() + "\\.[ac]"), g.listener));
      g.settle("a and c", 2);
      want(name + " matched", s.owned, Set.of(new TopicPartition(name + ".a", 0), new TopicPartition(name + ".c", 0)));
      s.leave();
    }
    g.report("done");
  }

  /** Reads, writes and commits in transactions; some are aborted and done again. */
  static void transactions(Protocol p) throws Exception {
    String name = "txn-" + p.name();
    topic(name, 2);
    topic(name + ".out", 2);
    produce(name, 2, 0, 200);
    try (var c = consumer(name, p, Map.of("max.poll.records", "15")); var out = producer(name)) {
      out.initTransactions();
      c.subscribe(List.of(name));
      int turns = 0;
      for (long done = 0, end = System.nanoTime() + PATIENCE.toNanos(); done < 200; turns++) {
        want(name + " done in time", System.nanoTime() < end, true);
        done = turn(c, out, name + ".out", turns % 3 == 2) ? committed(name) : done;
      }
      // Who left the group, or is behind it, does not commit.
      out.beginTransaction();
      out.send(new ProducerRecord<>(name + ".out", "never"));
      var old = new ConsumerGroupMetadata(name, c.groupMetadata().generationId() + 7, c.groupMetadata().memberId(), Optional.empty());
      wantThrown(name + " zombie", CommitFailedException.class, () -> out.sendOffsetsToTransaction(Map.of(new TopicPartition(name, 0), new OffsetAndMetadata(0)), old));
      out.abortTransaction();
      want(name + " committed", committed(name), 200L);
    }
    wantCopied(name, 200);
  }

  /** One transaction, or none if there was nothing to read; tells whether it was committed. */
  static boolean turn(KafkaConsumer<String, String> c, KafkaProducer<String, String> out, String to, boolean abort) throws Exception {
    var records = c.poll(Duration.ofMillis(100));
    if (records.isEmpty()) {
      return false;
    }
    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
    out.beginTransaction();
    for (var r : records) {
      out.send(new ProducerRecord<>(to, r.partition(), null, r.value()));
      offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
    }
    out.sendOffsetsToTransaction(offsets, c.groupMetadata());
    if (!abort) {
      out.commitTransaction();
      return true;
    }
    out.flush();
    out.abortTransaction();
    var at = c.committed(c.assignment());
    for (var tp : c.assignment()) {
      c.seek(tp, at.get(tp) == null ? 0 : at.get(tp).offset());
    }
    return false;
  }

  /** What a topic's copy has, read committed: each once, in order. */
  static void wantCopied(String name, int count) {
    try (var c = consumer(null, PROTOCOLS.get(0), Map.of("isolation.level", "read_committed"))) {
      var all = List.of(new TopicPartition(name + ".out", 0), new TopicPartition(name + ".out", 1));
      c.assign(all);
      c.seekToBeginning(all);
      int[] next = {0, 1};
      for (var r : poll(c, count)) {
        want(name + " copied", r.value(), String.valueOf(next[r.partition()]));
        next[r.partition()] += 2;
      }
      want(name + " surplus", c.poll(Duration.ofMillis(300)).count(), 0);
      var ends = c.endOffsets(all); // The stable ones.
      for (var tp : all) {
        want(name + " position", c.position(tp), ends.get(tp));
      }
    }
  }

  /** The second producer with a transactional id ends the first one's transaction, and the first. */
  static void fencing() throws Exception {
    topic("fencing.out", 2);
    topic("fencing", 2);
    produce("fencing", 2, 0, 4); // Only that wantCopied has a topic to compare with.
    try (var one = producer("fencing"); var two = producer("fencing")) {
      one.initTransactions();
      one.beginTransaction();
      one.send(new ProducerRecord<>("fencing.out", 0, null, "never")).get();
      two.initTransactions();
      two.beginTransaction();
      for (int i = 0; i < 4; i++) {
        two.send(new ProducerRecord<>("fencing.out", i % 2, null, String.valueOf(i)));
      }
      two.commitTransaction();
      try {
        one.send(new ProducerRecord<>("fencing.out", 0, null, "never"));
        one.commitTransaction();
        want("an error of the zombie", null, "one");
      } catch (ProducerFencedException | InvalidProducerEpochException e) {
        // As it is to be.
      }
    }
    wantCopied("fencing", 4);
  }

  /** Members of one protocol after the other in one group, with offsets kept. */
  static void migration() throws Exception {
    topic("migration", 4);
    produce("migration", 4, 0, 40);
    var g = new Group("migration", PROTOCOLS.get(1), Map.of());
    Member old = g.join();
    g.settle("classic", 4);
    await("40 records", () -> g.count() == 40);
    Member fresh = g.join(PROTOCOLS.get(2), Map.of());
    g.settle("both", 2, 2);
    produce("migration", 4, 40, 80);
    await("80 records", () -> g.count() == 80);
    old.leave();
    g.settle("consumer", 4);
    Member back = g.join();
    g.settle("both again", 2, 2);
    fresh.leave();
    g.settle("classic again", 4);
    produce("migration", 4, 80, 120);
    await("120 records", () -> g.count() == 120);
    back.leave();
    g.wantOnce(120);
    want("migration committed", committed("migration"), 120L);
    g.report("done");
  }

  /** The broker is started again under two members: they keep what they have, and nothing is read twice. */
  static void groupOverRestarts(Protocol p) throws Exception {
    String name = "restart-" + p.name();
    topic(name, 4);
    // A client that bootstraps anew forgets all topics for a moment, and its group is disturbed by that.
    var g = new Group(name, p, Map.of("metadata.recovery.strategy", "none"));
    Member a = g.join();
    g.settle("a", 4);
    Member b = g.join();
    g.settle("a and b", 2, 2);
    var owned = List.of(a.owned, b.owned);
    int callbacks = a.assigned.get() + b.assigned.get();
    for (int i = 0; i <= RESTARTS; i++) {
      int read = (i + 1) * 100;
      produce(name, 4, i * 100, read);
      await(name + " records", () -> g.count() == read);
      await(name + " committed", () -> committed(name) == read);
      if (i < RESTARTS) {
        restart();
      }
    }
    g.settle("after the restarts", 2, 2);
    want(name + " owned", List.of(a.owned, b.owned), owned);
    int more = a.assigned.get() + b.assigned.get() - callbacks;
    g.leave();
    g.wantOnce(300);
    g.report("%d callbacks after restarts", more);
  }

  /** Transactions that are open while the broker is started again: one goes on, one is aborted. */
  static void transactionsOverRestarts(Protocol p) throws Exception {
    String name = "txn-restart-" + p.name();
    topic(name, 2);
    topic(name + ".out", 2);
    try (var c = consumer(name, p, Map.of()); var out = producer(name); var aborted = producer(name + "-aborted")) {
      out.initTransactions();
      aborted.initTransactions();
      c.subscribe(List.of(name));
      for (int i = 0; i <= RESTARTS; i++) {
        produce(name, 2, i * 40, i * 40 + 40);
        out.beginTransaction();
        aborted.beginTransaction();
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        int sent = 0;
        for (var r : poll(c, 40)) {
          out.send(new ProducerRecord<>(name + ".out", r.partition(), null, r.value()));
          aborted.send(new ProducerRecord<>(name + ".out", r.partition(), null, "never"));
          offsets.put(new TopicPartition(name, r.partition()), new OffsetAndMetadata(r.offset() + 1));
          if (++sent == 20 && i < RESTARTS) {
            out.flush();
            aborted.flush();
            restart();
          }
        }
        out.sendOffsetsToTransaction(offsets, c.groupMetadata());
        aborted.flush();
        aborted.abortTransaction();
        out.commitTransaction();
        long all = (i + 1) * 40L;
        await(name + " committed", () -> committed(name) == all); // The marker may come after the answer.
      }
    }
    wantCopied(name, (RESTARTS + 1) * 40);
  }

  /** A group, what its members read, and its generations as it grows and shrinks. */
  static class Group {
    final String name;
    final Protocol protocol;
    final Map<String, String> further;
    final List<Member> members = new ArrayList<>();
    final Map<String, AtomicInteger> read = new ConcurrentHashMap<>();
    final AtomicLong total = new AtomicLong();
    final List<String> stages = new ArrayList<>();
    Member listener; // The one that is just made.

    Group(String name, Protocol protocol, Map<String, String> further) {
      this.name = name;
      this.protocol = protocol;
      this.further = further;
    }

    Member join() {
      return join(Map.of());
    }

    Member join(Map<String, String> settings) {
      return join(protocol, settings);
    }

    Member join(Protocol p, Map<String, String> settings) {
      return start(new Member(this, p, settings), c -> c.subscribe(List.of(name), listener));
    }

    Member join(java.util.function.Consumer<KafkaConsumer<String, String>> subscribe) {
      return start(new Member(this, protocol, Map.of()), subscribe);
    }

    Member start(Member m, java.util.function.Consumer<KafkaConsumer<String, String>> subscribe) {
      members.add(m);
      listener = m;
      subscribe.accept(m.consumer);
      m.start();
      return m;
    }

    List<Member> active() {
      return members.stream().filter(m -> m.isAlive() && m.failure == null).toList();
    }

    /** Waits until the members own this many partitions each, all different, and nothing has changed for a while. */
    void settle(String stage, Integer... sizes) throws Exception {
      List<Integer> want = new ArrayList<>(List.of(sizes));
      long since = System.nanoTime();
      List<Integer> last = List.of();
      for (long end = since + PATIENCE.toNanos(); System.nanoTime() - since < TimeUnit.MILLISECONDS.toNanos(1500); Thread.sleep(20)) {
        Set<TopicPartition> all = new HashSet<>();
        List<Integer> counts = new ArrayList<>();
        List<Integer> state = new ArrayList<>();
        for (Member m : active()) {
          all.addAll(m.owned);
          counts.add(m.owned.size());
          state.add(m.generation);
        }
        counts.sort(null);
        boolean good = counts.equals(want) && all.size() == counts.stream().mapToInt(i -> i).sum() && new HashSet<>(state).size() == 1;
        if (!good || !state.equals(last)) {
          since = System.nanoTime();
          last = state;
        }
        if (System.nanoTime() > end) {
          for (Member m : members) {
            System.err.println("member alive " + m.isAlive() + " owns " + m.owned + " generation " + m.generation + " failure " + m.failure);
          }
          want(name + ": " + stage, counts, want);
        }
      }
      stages.add(stage + " " + last.get(0));
    }

    long count() {
      for (Member m : members) {
        if (m.failure != null && !(m.failure instanceof FencedInstanceIdException || m.failure instanceof UnreleasedInstanceIdException)) {
          fail(m.failure);
        }
      }
      return total.get();
    }

    void wantOnce(int count) {
      Map<String, Integer> wrong = new TreeMap<>();
      for (int i = 0; i < count; i++) {
        var n = read.get(String.valueOf(i));
        if (n == null || n.get() != 1) {
          wrong.put(String.valueOf(i), n == null ? 0 : n.get());
        }
      }
      want(name + " read how often", wrong, Map.of());
    }

    void leave() throws Exception {
      for (Member m : active()) {
        m.leave();
      }
    }

    void report(String callbacks, Object... args) {
      synchronized (System.out) {
        System.out.println("# " + name);
        if (protocol.isClassic() || !name.startsWith("regex")) { // Else it depends on when the client learns of topics.
          stages.forEach(System.out::println);
        }
        System.out.println(String.format(callbacks, args));
      }
    }
  }

  /** A consumer and its thread: it commits what it has read after each poll, and before it gives partitions away. */
  static class Member extends Thread implements ConsumerRebalanceListener {
    final Group group;
    final KafkaConsumer<String, String> consumer;
    final AtomicInteger assigned = new AtomicInteger();
    final AtomicInteger lost = new AtomicInteger();
    volatile Set<TopicPartition> owned = Set.of();
    volatile int generation;
    volatile boolean leaving;
    volatile Throwable failure;

    Member(Group group, Protocol p, Map<String, String> settings) {
      this.group = group;
      Map<String, String> all = new HashMap<>(group.further);
      all.putAll(settings);
      consumer = consumer(group.name, p, all);
      setDaemon(true);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
      assigned.incrementAndGet();
      var now = new HashSet<>(owned);
      now.addAll(partitions);
      owned = now;
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
      consumer.commitSync();
      remove(partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
      lost.incrementAndGet();
      remove(partitions);
    }

    void remove(Collection<TopicPartition> partitions) {
      var now = new HashSet<>(owned);
      now.removeAll(partitions);
      owned = now;
    }

    @Override
    public void run() {
      try (consumer) {
        while (!leaving) {
          var records = consumer.poll(Duration.ofMillis(50));
          generation = consumer.groupMetadata().generationId();
          for (var r : records) {
            group.read.computeIfAbsent(r.value(), v -> new AtomicInteger()).incrementAndGet();
          }
          group.total.addAndGet(records.count());
          if (!records.isEmpty()) {
            consumer.commitSync();
          }
        }
      } catch (Throwable e) {
        failure = e;
      }
    }

    void leave() throws Exception {
      leaving = true;
      join();
      if (failure != null) {
        fail(failure);
      }
    }
  }

  static final long FIRST_TIME = 1700000000000L;

  static Properties properties() {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    p.put("retry.backoff.ms", "50");
    p.put("reconnect.backoff.ms", "50");
    p.put("reconnect.backoff.max.ms", "200");
    return p;
  }

  static KafkaConsumer<String, String> consumer(String group, Protocol protocol, Map<String, String> further) {
    Properties p = properties();
    p.putAll(protocol.settings());
    if (group != null) {
      p.put("group.id", group);
    }
    p.put("auto.offset.reset", "earliest");
    p.put("enable.auto.commit", "false");
    if (protocol.isClassic()) {
      p.put("heartbeat.interval.ms", "300");
    }
    further.forEach((k, v) -> {
      if (!v.isEmpty()) {
        p.put(k, v);
      }
    });
    return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
  }

  static KafkaProducer<String, String> producer(String transactionalId) {
    Properties p = properties();
    if (transactionalId != null) {
      p.put("transactional.id", transactionalId);
    }
    return new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
  }

  static void topic(String name, int partitions) throws Exception {
    admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(Map.of("retention.ms", "-1")))).all().get();
  }

  static final Map<String, KafkaProducer<String, String>> producers = new ConcurrentHashMap<>();

  /** Writes the numbers from to to, each to the partition that it is modulo their count. */
  static void produce(String topic, int partitions, int from, int to) throws Exception {
    var out = producers.computeIfAbsent(topic, t -> producer(null));
    for (int i = from; i < to; i++) {
      out.send(new ProducerRecord<>(topic, i % partitions, FIRST_TIME + i * 1000L, null, String.valueOf(i)));
    }
    out.flush();
  }

  /** The sum of a group's committed offsets. */
  static long committed(String group) {
    try {
      return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream().mapToLong(o -> o == null ? 0 : o.offset()).sum();
    } catch (Exception e) {
      fail(e);
      return 0;
    }
  }

  static List<ConsumerRecord<String, String>> poll(KafkaConsumer<String, String> c, int count) {
    List<ConsumerRecord<String, String>> records = new ArrayList<>();
    for (long end = System.nanoTime() + PATIENCE.toNanos(); records.size() < count;) {
      want(count + " records in time, not " + records.size(), System.nanoTime() < end, true);
      c.poll(Duration.ofMillis(50)).forEach(records::add);
    }
    return records;
  }

  static void await(String what, BooleanSupplier good) throws Exception {
    for (long end = System.nanoTime() + PATIENCE.toNanos(); !good.getAsBoolean(); Thread.sleep(20)) {
      want(what + " in time", System.nanoTime() < end, true);
    }
  }

  static void want(String what, Object got, Object want) {
    if (got == null ? want != null : !got.equals(want)) {
      fail(new AssertionError(what + ": " + got + ", want " + want));
    }
  }

  static void wantThrown(String what, Class<?> wanted, Scenario s) throws Exception {
    try {
      s.run();
    } catch (Exception e) {
      want(what, e.getClass(), wanted);
      return;
    }
    want(what, null, wanted);
  }

  static void fail(Throwable e) {
    e.printStackTrace();
    System.err.flush();
    Runtime.getRuntime().halt(1);
  }
}
