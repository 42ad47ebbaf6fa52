package config

import (
	"testing"
)

// A running broker is stricter with values than a file, and tells keys of one listener from others.
func TestDynamicRefusals(t *testing.T) {
	b, _, err := Load(Sources{Options: []string{"metric.reporters=of.the.File"}})
	if err != nil {
		t.Fatal(err)
	}
	f := func(key, text string, named bool, want string) {
		t.Helper()
		got := ""
		if err := b.CheckDynamic(map[string]string{key: text}, named); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s=%s: %q, want %q", key, text, got, want)
		}
	}
	const (
		one, all = true, false
		bare     = "These security configs can be dynamically updated only per-listener using the listener prefix: "
		single   = "Cannot update these configs at default cluster level, broker id must be specified: "
	)
	f("ssl.protocol", "TLSv1.3", one, "")
	f("ssl.protocol", "TLSv1.3", all, single+"[ssl.protocol]")
	f("ssl.key.password", "x", one, bare+"[ssl.key.password]")
	f("ssl.keymanager.algorithm", "PKIX", one, "")
	f("ssl.keystore.type", "PEM", one, bare+"[ssl.keystore.type]")
	f("ssl.truststore.location", "x", all, bare+"[ssl.truststore.location]")
	f("listener.name.x.ssl.keystore.type", "PEM", one, "")
	f("listener.name.x.ssl.keystore.type", "PEM", all, single+"[listener.name.x.ssl.keystore.type]")
	f("listener.name.x.max.connections", "5", all, "")
	f("listener.name.x.max.connections", "y", all, "Invalid value org.apache.kafka.common.config.ConfigException: "+
		"Invalid value y for configuration max.connections: Not a number of type INT for configuration Invalid dynamic configuration")
	f("log.cleanup.policy", "compact,delete", all, "")
	f("log.cleanup.policy", "compact,compact", all, "Configuration 'log.cleanup.policy' values must not be duplicated.")
	f("log.cleanup.policy", "nonsense,nonsense", all, "Configuration 'log.cleanup.policy' values must not be duplicated.")
	f("config.providers", "a,a", all, "")
	f("listeners", "", one, "Configuration 'listeners' must not be empty. Valid values include: any non-empty value")
	f("principal.builder.class", "no.such.Builder", one, "Invalid value no.such.Builder for configuration principal.builder.class: Class no.such.Builder could not be found.")
	f("principal.builder.class", "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", one, "")
	f("metric.reporters", "", all, "")
	f("metric.reporters", "of.the.File", all, "")
	f("metric.reporters", "org.apache.kafka.common.metrics.JmxReporter", all, "")
	f("metric.reporters", "no.such.Reporter", all, "Invalid value org.apache.kafka.common.config.ConfigException: Validation of dynamic config update of "+
		"Set(metric.reporters) failed with class class kafka.server.DynamicMetricsReporters for configuration Invalid dynamic configuration")
	f("min.insync.replicas", "1", all, "")
}

// A key of one listener is described as the key that it stands for.
func TestDescribeListenerKeys(t *testing.T) {
	b, _, err := Load(Sources{Options: []string{"max.connections=70"}})
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"listener.name.x.max.connections": " 5", "listener.name.x.plain.sasl.jaas.config": "secret", "listener.name.x.nobody": "1"}
	b, err = b.WithDynamic(own, map[string]string{"listener.name.x.max.connections": "6", "max.connections": "60"})
	if err != nil {
		t.Fatal(err)
	}
	f := func(entries []Entry, name string, typ Type, value *string, synonyms ...SynonymEntry) {
		t.Helper()
		for _, e := range entries {
			if e.Name != name {
				continue
			}
			if e.Type != typ || !e.ReadOnly || e.Sensitive != (value == nil) || !same(e.Value, value) || len(e.Synonyms) != len(synonyms) {
				t.Errorf("%+v", e)
				return
			}
			for i, s := range synonyms {
				if got := e.Synonyms[i]; got.Name != s.Name || got.Source != s.Source || !same(got.Value, s.Value) {
					t.Errorf("%s: synonym %d is %+v", name, i, got)
				}
			}
			return
		}
		t.Errorf("no %s", name)
	}
	const limit = "listener.name.x.max.connections"
	f(DescribeBroker(b), limit, Int, ref(" 5"),
		SynonymEntry{limit, ref(" 5"), DynamicBroker}, SynonymEntry{limit, ref("6"), DynamicDefaultBroker},
		SynonymEntry{"max.connections", ref("60"), DynamicDefaultBroker}, SynonymEntry{"max.connections", ref("70"), StaticBroker},
		SynonymEntry{"max.connections", ref("2147483647"), Default})
	f(DescribeClusterDefaults(b), limit, Int, ref("6"), SynonymEntry{limit, ref("6"), DynamicDefaultBroker}, SynonymEntry{"max.connections", ref("60"), DynamicDefaultBroker})
	f(DescribeBroker(b), "listener.name.x.plain.sasl.jaas.config", Password, nil, SynonymEntry{"listener.name.x.plain.sasl.jaas.config", nil, DynamicBroker})
	f(DescribeBroker(b), "listener.name.x.nobody", 0, nil, SynonymEntry{"listener.name.x.nobody", nil, DynamicBroker})
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
