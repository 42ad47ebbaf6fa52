"""kafka-python at work: python3 groups.py BOOTSTRAP. It reads the topic "python" as a group and writes what it read to "python.out", each
batch and its offsets in one transaction; each third is aborted and done again. Amid the work it says "half" and waits for a line of input."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

NUMBERS = 120
bootstrap = sys.argv[1]
name = "python"


def offsets(batch):
    last = {tp: records[-1] for tp, records in batch.items()}
    return {tp: OffsetAndMetadata(r.offset + 1, "", -1) for tp, r in last.items()}


def rewind(consumer):
    for tp in consumer.assignment():
        consumer.seek(tp, consumer.committed(tp) or 0)


def main():
    consumer = KafkaConsumer(name, bootstrap_servers=bootstrap, group_id=name, enable_auto_commit=False, auto_offset_reset="earliest", max_poll_records=10)
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
    producer.init_transactions()
    done = turn = 0
    restarted = False
    while done < NUMBERS:
        batch = consumer.poll(timeout_ms=200)
        if not batch:
            continue
        turn += 1
        producer.begin_transaction()
        for records in batch.values():
            for r in records:
                producer.send(name + ".out", r.value, partition=r.partition)
        if done >= NUMBERS / 2 and not restarted:
            restarted = True
            producer.flush()
            print("half", flush=True)
            sys.stdin.readline()
        producer.send_offsets_to_transaction(offsets(batch), consumer.group_metadata() if hasattr(consumer, "group_metadata") else name)
        if turn % 3 == 0:
            producer.abort_transaction()
            rewind(consumer)
        else:
            producer.commit_transaction()
            done += sum(len(records) for records in batch.values())
    producer.close()
    consumer.close()


main()
