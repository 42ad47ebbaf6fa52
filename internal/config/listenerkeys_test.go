package config

import (
	"strings"
	"testing"
)

// A listener may have limits of its own, from every place that sets keys.
func TestListenerKeys(t *testing.T) {
	b, warnings, err := Load(Sources{
		Options:  []string{"listener.name.inside.max.connections=7"},
		File:     "server.properties",
		FileData: []byte("listeners=INSIDE://:9092,OUTSIDE://:9093\nlistener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT\n" + "listener.name.outside.max.connection.creation.rate=5\nlistener.name.outside.ssl.protocol=x\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.ListenerLimits["INSIDE"]; got != (ListenerLimits{7, unlimited}) {
		t.Errorf("%+v", got)
	}
	if got := b.ListenerLimits["OUTSIDE"]; got != (ListenerLimits{unlimited, 5}) {
		t.Errorf("%+v", got)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "listener.name.outside.ssl.protocol") || strings.Contains(warnings[0], "rate") {
		t.Errorf("%q", warnings)
	}
	if b, err = b.WithDynamic(map[string]string{"listener.name.inside.max.connections": "8"}, nil); err != nil || b.ListenerLimits["INSIDE"].MaxConnections != 8 {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestListenerKeyRefusals(t *testing.T) {
	f := func(option, want string) {
		t.Helper()
		_, _, err := Load(Sources{Options: []string{option}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", option, err)
		}
	}
	f("listener.name.plaintext.max.connections=x", "Invalid value x for configuration listener.name.plaintext.max.connections: Not a number of type INT")
	f("listener.name.plaintext.max.connection.creation.rate=-1", "Value must be at least 0")
	f("listener.name..max.connections=1", "unknown key")
	f("listener.name.plaintext.max.connections.per.ip=1", "unknown key")
}

func TestLogKeys(t *testing.T) {
	f := func(value string, ok bool) {
		t.Helper()
		if _, _, err := Load(Sources{Options: []string{"log.level=" + value}}); (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
	}
	f("info", true)
	f("warn,replicas=debug", true)
	f("replicas=debug", true)
	f("loud", false)
	f("info,replicas=loud", false)
	f("=debug", false)
	f("info,", false)
	if _, _, err := Load(Sources{Options: []string{"log.format=xml"}}); err == nil {
		t.Error("log.format=xml")
	}
}

// What was set while a broker runs holds after a restart, too: nobody could undo it.
func TestNobodyLockedOut(t *testing.T) {
	b, _ := load(t, Sources{Options: []string{"listeners=A://:1,B://:2", "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT"}})
	f := func(ok, named bool, configs map[string]string) {
		t.Helper()
		if err := b.CheckDynamic(configs, named); (err == nil) != ok {
			t.Errorf("%v: %v", configs, err)
		}
	}
	f(false, true, map[string]string{"max.connections": "0"})
	f(false, false, map[string]string{"max.connections": "0"})
	f(true, true, map[string]string{"listener.name.a.max.connections": "0"})
	f(false, true, map[string]string{"listener.name.a.max.connections": "0", "listener.name.b.max.connections": "0"})
	f(true, true, map[string]string{"max.connections": "1"})
	b, _ = load(t, Sources{Options: []string{"max.connections=0"}}) // Of the file, which can be changed.
	f(true, true, map[string]string{"log.cleaner.backoff.ms": "1"})
}
