import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.BrokerIdNotRegisteredException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/**
 * The admin client of Apache Kafka asked for what programs ask it for: {@code Admin BOOTSTRAP}. The scripts name the calls that AKHQ,
 * kafka-ui and Strimzi's topic operator make, without those about groups and security, and the last makes those nobody else does.
 */
public class Admin {
  static org.apache.kafka.clients.admin.Admin admin;
  static final ConfigResource BROKER = new ConfigResource(ConfigResource.Type.BROKER, "1");

  public static void main(String[] args) throws Exception {
    Client.bootstrap = args[0];
    try (var client = org.apache.kafka.clients.admin.Admin.create(Client.properties())) {
      admin = client;
      script("akhq", Admin::akhq);
      script("kafka-ui", Admin::kafkaUI);
      script("strimzi", Admin::strimzi);
      script("the rest", Admin::rest);
    }
    System.exit(0);
  }

  interface Script {
    void play() throws Exception;
  }

  static void script(String name, Script script) throws Exception {
    System.err.println("# " + name);
    script.play();
  }

  static ConfigResource topic(String name) {
    return new ConfigResource(ConfigResource.Type.TOPIC, name);
  }

  static AlterConfigOp op(OpType type, String key, String value) {
    return new AlterConfigOp(new ConfigEntry(key, value), type);
  }

  static Config config(ConfigResource r) throws Exception {
    return admin.describeConfigs(Set.of(r)).all().get().get(r);
  }

  /** Kafka answers a change before every broker has learnt of it. */
  static void soon(String what, BooleanSupplier seen) throws Exception {
    for (int i = 0; i < 200 && !seen.getAsBoolean(); i++) {
      Thread.sleep(50);
    }
    Client.want(what, seen.getAsBoolean(), true);
  }

  static <T> T now(Future<T> future) {
    try {
      return future.get();
    } catch (Exception e) {
      throw new RuntimeException(e);
    }
  }

  static void produce(String topic, int partition, int count) throws Exception {
    try (var producer = Client.producer("none", "all")) {
      for (int i = 0; i < count; i++) {
        producer.send(new ProducerRecord<>(topic, partition, null, ("v" + i).getBytes())).get();
      }
    }
  }

  static long end(TopicPartition p) throws Exception {
    return admin.listOffsets(Map.of(p, OffsetSpec.latest())).partitionResult(p).get().offset();
  }

  /** Nodes, topics with sizes and offsets, settings shown and changed, a topic emptied. */
  static void akhq() throws Exception {
    String name = "akhq-topic";
    var cluster = admin.describeCluster();
    Client.want("nodes", cluster.nodes().get().size(), 1);
    Client.want("controller", cluster.controller().get().id(), 1);
    Client.want("cluster id", cluster.clusterId().get().length(), 22);
    var ids = cluster.nodes().get().stream().map(Node::id).collect(Collectors.toList());
    Client.wantCause(SecurityDisabledException.class, admin.describeAcls(AclBindingFilter.ANY).values());

    admin.createTopics(List.of(new NewTopic(name, 2, (short) 1))).all().get();
    soon("the new topic", () -> now(admin.listTopics(new ListTopicsOptions().listInternal(true)).names()).contains(name));
    produce(name, 0, 20);
    var described = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
    Client.want("partitions", described.partitions().size(), 2);
    Client.want("in sync", described.partitions().get(1).isr().size(), 1);
    var p0 = new TopicPartition(name, 0);
    try (var consumer = Client.consumer()) {
      Client.want("begins", consumer.beginningOffsets(List.of(p0)), Map.of(p0, 0L));
      Client.want("ends", consumer.endOffsets(List.of(p0)), Map.of(p0, 20L));
    }
    var dirs = admin.describeLogDirs(ids).allDescriptions().get().get(1);
    var size = dirs.values().stream().filter(d -> d.replicaInfos().containsKey(p0)).mapToLong(d -> d.replicaInfos().get(p0).size()).sum();
    Client.want("a size of " + size, size > 20 * 2, true);

    Client.want("node.id", config(BROKER).get("node.id").value(), "1");
    Client.want("read-only", config(BROKER).get("node.id").isReadOnly(), true);
    Client.want("source", config(topic(name)).get("retention.ms").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG);
    admin.incrementalAlterConfigs(Map.of(topic(name), List.of(op(OpType.SET, "retention.ms", "3600000"), op(OpType.SET, "cleanup.policy", "delete")))).all().get();
    soon("the setting", () -> {
      try {
        var c = config(topic(name)).get("retention.ms");
        return c.value().equals("3600000") && c.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG;
      } catch (Exception e) {
        throw new RuntimeException(e);
      }
    });
    admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all().get();

    // Emptied: AKHQ deletes up to the end.
    var low = admin.deleteRecords(Map.of(p0, RecordsToDelete.beforeOffset(end(p0)))).lowWatermarks().get(p0).get().lowWatermark();
    Client.want("emptied", low, 20L);
    try (var consumer = Client.consumer()) {
      Client.want("begins", consumer.beginningOffsets(List.of(p0)), Map.of(p0, 20L));
    }
    admin.deleteTopics(List.of(name)).all().get();
    soon("the topic's end", () -> !now(admin.listTopics().names()).contains(name));
  }

  /** Versions, features, everything's settings with documentation, directories, quotas, reassignments. */
  static void kafkaUI() throws Exception {
    String name = "kafka-ui-topic";
    var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
    cluster.authorizedOperations().get();
    Client.want("controller", cluster.controller().get().id(), 1);
    var features = admin.describeFeatures().featureMetadata().get();
    Client.want("metadata.version", (int) features.finalizedFeatures().get("metadata.version").maxVersionLevel(), 33);
    var documented = admin.describeConfigs(List.of(BROKER), new DescribeConfigsOptions().includeDocumentation(true).includeSynonyms(true)).all().get().get(BROKER);
    Client.want("documentation", documented.get("log.retention.ms").documentation().isBlank(), false);
    Client.want("synonyms", documented.get("node.id").synonyms().isEmpty(), false);

    admin.createTopics(List.of(new NewTopic(name, 3, (short) 1).configs(Map.of("cleanup.policy", "compact", "segment.bytes", "1048576")))).all().get();
    soon("the new topic", () -> now(admin.listTopics().names()).contains(name));
    var resources = admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().stream().map(Admin::topic).collect(Collectors.toList());
    var configs = admin.describeConfigs(resources, new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get();
    Client.want("settings of all", configs.size(), resources.size());
    Client.want("its own", own(configs.get(topic(name))), Set.of("cleanup.policy", "segment.bytes"));
    // What the form no longer holds is deleted, the rest set.
    admin.incrementalAlterConfigs(Map.of(topic(name), List.of(op(OpType.SET, "cleanup.policy", "compact,delete"), op(OpType.SET, "retention.ms", "100000"), op(OpType.DELETE, "segment.bytes", "")))).all().get();
    soon("the form's settings", () -> {
      try {
        return own(config(topic(name))).equals(Set.of("cleanup.policy", "retention.ms"));
      } catch (Exception e) {
        throw new RuntimeException(e);
      }
    });
    admin.incrementalAlterConfigs(Map.of(BROKER, List.of(op(OpType.SET, "log.cleaner.backoff.ms", "14000")))).all().get();
    soon("the broker's setting", () -> {
      try {
        return config(BROKER).get("log.cleaner.backoff.ms").value().equals("14000");
      } catch (Exception e) {
        throw new RuntimeException(e);
      }
    });
    admin.incrementalAlterConfigs(Map.of(BROKER, List.of(op(OpType.DELETE, "log.cleaner.backoff.ms", null)))).all().get();

    admin.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all().get();
    var p1 = new TopicPartition(name, 1);
    var offsets = admin.listOffsets(Map.of(p1, OffsetSpec.earliest(), new TopicPartition(name, 0), OffsetSpec.latest())).all().get();
    Client.want("offset", offsets.get(p1).offset(), 0L);
    var dirs = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1);
    var dir = dirs.keySet().iterator().next();
    Client.want("error of " + dir, dirs.get(dir).error(), null);
    Client.want("disk", dirs.get(dir).totalBytes().getAsLong() > dirs.get(dir).usableBytes().getAsLong(), true);
    admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica(name, 1, 1), dir)).all().get(); // Where it is.
    admin.alterPartitionReassignments(Map.of(p1, Optional.of(new NewPartitionReassignment(List.of(1))))).all().get();
    Client.want("reassignments", admin.listPartitionReassignments().reassignments().get(), Map.of());

    var user = new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, "alice"));
    admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e6))))).all().get();
    soon("the quota", () -> now(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).equals(Map.of(user, Map.of("producer_byte_rate", 1e6))));
    var exact = ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.USER, "alice")));
    Client.want("alice's quotas", admin.describeClientQuotas(exact).entities().get().size(), 1);
    admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))))).all().get();
    soon("no quota", () -> now(admin.describeClientQuotas(ClientQuotaFilter.all()).entities()).isEmpty());
    admin.deleteTopics(List.of(name)).all().get();
  }

  /** The keys that were set for a topic itself. */
  static Set<String> own(Config c) {
    return c.entries().stream().filter(e -> e.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG).map(ConfigEntry::name).collect(Collectors.toCollection(TreeSet::new));
  }

  /** Topics in batches, each with an outcome of its own; mistakes told apart by their kind. */
  static void strimzi() throws Exception {
    for (var node : admin.describeCluster().nodes().get()) {
      var broker = new ConfigResource(ConfigResource.Type.BROKER, node.idString());
      Client.want("auto.create.topics.enable", config(broker).get("auto.create.topics.enable").value(), "true");
      Client.want("min.insync.replicas", config(broker).get("min.insync.replicas").value(), "1");
    }
    var created = admin.createTopics(Set.of(
        new NewTopic("strimzi-a", Optional.of(2), Optional.of((short) 1)).configs(Map.of("retention.ms", "7200000", "min.insync.replicas", "1")),
        new NewTopic("strimzi-b", Optional.empty(), Optional.empty()),
        new NewTopic("strimzi-bad", Optional.of(1), Optional.of((short) 1)).configs(Map.of("retention.ms", "soon"))));
    created.values().get("strimzi-a").get();
    Client.want("an id", created.topicId("strimzi-a").get().toString().length(), 22);
    Client.want("default partitions", created.numPartitions("strimzi-b").get(), 1);
    Client.wantCause(InvalidConfigurationException.class, created.values().get("strimzi-bad"));
    Client.wantCause(TopicExistsException.class, admin.createTopics(Set.of(new NewTopic("strimzi-a", 2, (short) 1))).values().get("strimzi-a"));

    soon("the new topics", () -> now(admin.listTopics().names()).containsAll(Set.of("strimzi-a", "strimzi-b")));
    var described = admin.describeTopics(TopicCollection.ofTopicNames(List.of("strimzi-a", "strimzi-b", "strimzi-none"))).topicNameValues();
    Client.want("partitions", described.get("strimzi-a").get().partitions().size(), 2);
    Client.wantCause(UnknownTopicOrPartitionException.class, described.get("strimzi-none"));
    var configs = admin.describeConfigs(Set.of(topic("strimzi-a"), topic("strimzi-none"))).values();
    Client.want("retention.ms", configs.get(topic("strimzi-a")).get().get("retention.ms").value(), "7200000");
    Client.wantCause(UnknownTopicOrPartitionException.class, configs.get(topic("strimzi-none")));

    var p0 = new TopicPartition("strimzi-a", 0);
    Client.want("reassignments", admin.listPartitionReassignments(Set.of(p0)).reassignments().get(), Map.of());
    var altered = admin.incrementalAlterConfigs(Map.of(
        topic("strimzi-a"), List.of(op(OpType.SET, "retention.ms", "3600000"), op(OpType.DELETE, "min.insync.replicas", null)),
        topic("strimzi-b"), List.of(op(OpType.SET, "retention.ms", "soon")))).values();
    altered.get(topic("strimzi-a")).get();
    Client.wantCause(InvalidConfigurationException.class, altered.get(topic("strimzi-b")));
    var grown = admin.createPartitions(Map.of("strimzi-a", NewPartitions.increaseTo(3), "strimzi-b", NewPartitions.increaseTo(1), "strimzi-none", NewPartitions.increaseTo(2))).values();
    grown.get("strimzi-a").get();
    Client.wantCause(InvalidPartitionsException.class, grown.get("strimzi-b"));
    Client.wantCause(UnknownTopicOrPartitionException.class, grown.get("strimzi-none"));
    soon("three partitions", () -> now(admin.describeTopics(List.of("strimzi-a")).topicNameValues().get("strimzi-a")).partitions().size() == 3);
    var deleted = admin.deleteTopics(TopicCollection.ofTopicNames(List.of("strimzi-a", "strimzi-b", "strimzi-none"))).topicNameValues();
    deleted.get("strimzi-a").get();
    deleted.get("strimzi-b").get();
    Client.wantCause(UnknownTopicOrPartitionException.class, deleted.get("strimzi-none"));
  }

  /** What the admin client can do besides. */
  static void rest() throws Exception {
    String name = "admin-rest";
    admin.createTopics(List.of(new NewTopic(name, 2, (short) 1))).all().get();
    soon("the new topic", () -> now(admin.listTopics().names()).contains(name));
    produce(name, 0, 5);
    var p0 = new TopicPartition(name, 0);
    var p1 = new TopicPartition(name, 1);
    Client.wantCause(OffsetOutOfRangeException.class, admin.deleteRecords(Map.of(p0, RecordsToDelete.beforeOffset(6))).all());

    var elected = admin.electLeaders(ElectionType.PREFERRED, Set.of(p0)).partitions().get();
    Client.want("election not needed", elected.get(p0).get().getClass().getSimpleName(), "ElectionNotNeededException");
    Client.want("none to elect", admin.electLeaders(ElectionType.PREFERRED, null).partitions().get(), Map.of());
    Client.wantCause(NoReassignmentInProgressException.class, admin.alterPartitionReassignments(Map.of(p0, Optional.empty())).values().get(p0));
    Client.wantCause(InvalidReplicaAssignmentException.class, admin.alterPartitionReassignments(Map.of(p1, Optional.of(new NewPartitionReassignment(List.of(7))))).values().get(p1));

    var quorum = admin.describeMetadataQuorum().quorumInfo().get();
    Client.want("leader of the metadata", quorum.leaderId(), 1);
    Client.want("voters", quorum.voters().size(), 1);
    Client.want("high watermark", quorum.highWatermark() > 0, true);
    var producers = admin.describeProducers(List.of(p0)).partitionResult(p0).get().activeProducers();
    Client.want("producers", producers.size() <= 1, true);
    var where = admin.describeReplicaLogDirs(List.of(new TopicPartitionReplica(name, 0, 1))).all().get().values().iterator().next();
    Client.want("a directory", where.getCurrentReplicaLogDir() != null, true);
    Client.want("no move", where.getFutureReplicaLogDir(), null);

    var metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "rest-metrics");
    var group = new ConfigResource(ConfigResource.Type.GROUP, "rest-group");
    var logger = new ConfigResource(ConfigResource.Type.BROKER_LOGGER, "1");
    admin.incrementalAlterConfigs(Map.of(
        metrics, List.of(op(OpType.SET, "interval.ms", "60000"), op(OpType.SET, "metrics", "org.apache.kafka.producer.")),
        group, List.of(op(OpType.SET, "consumer.heartbeat.interval.ms", "6000")),
        logger, List.of(op(OpType.SET, "root", "WARN")))).all().get();
    soon("the resources", () -> {
      var names = now(admin.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS, ConfigResource.Type.GROUP), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all());
      return Set.copyOf(names).equals(Set.of(metrics, group));
    });
    Client.want("every kind of resource", admin.listConfigResources().all().get().containsAll(List.of(metrics, group, topic(name), BROKER, logger)), true);
    Client.want("interval.ms", config(metrics).get("interval.ms").value(), "60000");
    Client.want("heartbeat", config(group).get("consumer.heartbeat.interval.ms").value(), "6000");
    Client.want("root", config(logger).get("root").value(), "WARN");
    admin.incrementalAlterConfigs(Map.of(
        metrics, List.of(op(OpType.DELETE, "interval.ms", null), op(OpType.DELETE, "metrics", null)),
        group, List.of(op(OpType.DELETE, "consumer.heartbeat.interval.ms", null)))).all().get();

    var dry = new UpdateFeaturesOptions().validateOnly(true);
    Client.wantCause(InvalidUpdateVersionException.class, admin.updateFeatures(Map.of("no.such", new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)), dry).values().get("no.such"));
    Client.wantCause(BrokerIdNotRegisteredException.class, admin.unregisterBroker(9).all());
    admin.deleteTopics(List.of(name)).all().get();
  }
}
