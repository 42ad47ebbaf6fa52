// Package differential asks Barnabas what Apache Kafka was asked, and compares the answers.
//
// A script (testdata/scripts/*.txt) is a list of requests, good and bad, for one fresh broker. Kafka's answers are recorded in
// testdata/answers and compared field by field with ours; `go test ./differential -record` starts Kafka 4.4.0 and records
// them anew (-scripts 'admin-*' plays some alone). What varies from run to run is replaced by name before anything is compared: ids, ports and times, and nothing
// else (normalise.go); the sentences that document configs are not recorded, for each side has its own. What we do otherwise on purpose is one short list (differences.go).
//
// # The language
//
//	# a comment
//	broker KEY=VALUE                   a property of the broker, before anything else; ${dir} is the directory that data directories are in
//	topic NAME [partitions=N] [KEY=VALUE …]
//	                                   makes a topic and waits until it can be used; $NAME is its id
//	await NAME                         waits until a topic can be used; $NAME is its id
//	gone NAME                          waits until a topic is no more
//	producer NAME                      gets a producer id, as $NAME
//	call API VERSIONS [OPTION …]       sends a request; the lines up to the next blank one are its fields as JSON
//	data NAME [unclean]                begins with a copy of testdata/data/NAME, which Kafka wrote (NAME.txt says what); unclean is
//	                                   as if Kafka had been killed
//	plugin NAME                        Kafka's broker gets java/NAME.java as a metrics reporter
//	wait MILLISECONDS                  waits, where time is what is tested
//	settled                            waits until Kafka acts on what it has answered; we answer later
//	restart, kill                      ends the broker, cleanly or not, and starts it again
//	break DIR, mend DIR                ends the broker cleanly, puts a file in the place of a data directory, or the directory back, and starts it again
//	ruin DIR                           puts a file in the place of a data directory while the broker runs
//	moved TOPIC PARTITION DIR          waits until a partition has moved to a data directory
//	offline TOPIC PARTITION            waits until a partition has no leader
//	transaction NAME TOPIC PARTITION … begins a transaction; $NAME and ${NAME.epoch} are its producer
//	coordinator group|transaction KEY  waits until a coordinator is there; of a transaction, begins with its producer
//	ended ID                           waits until all partitions of a transaction have its marker
//	group GROUP STATE                  waits until a group of the classic protocol is in that state
//	answered NAME                      reads the answer to a call with later=NAME
//	stable TOPIC PARTITION OFFSET      waits for the last stable offset
//	save NAME = PATH                   keeps a field of the last answer, as in ProducerID or Topics.0.TopicID
//	raw WHAT                           sends bytes on a connection of their own, says no more, and waits for the outcome
//
// VERSIONS is all, N, or N-M: the request is sent in each of them. Options of call: label=TEXT; cut=N drops the last N bytes of
// the request, add=HEX appends bytes; client=NAME sets the client id (client= is an empty one, client=null none); as=N writes version N into the header;
// later=NAME sends it on another connection, of that name, and goes on without its answer.
// Inside JSON, "$NAME" is a saved value, and ${NAME} in a longer string its text; ${v} is the version,
// and ${TEXT*TIMES} a text that many times.
// Records are a batch, or a list of batches: see [batch]. raw WHAT is a sequence of i8=N, i16=N, i32=N, i64=N, str=TEXT, hex=BYTES, zeros=N;
// frame in front writes the size, as=API:VERSION in front reads the answer.
//
// The outcome of a step is an answer; "closed", if the broker closed the connection; or "silent", if it answered the next
// request instead, as it must for acks=0.
package differential
