// KafkaJS at work: node client.js SCENARIO BOOTSTRAP. It cannot read without a
// group and knows no codec but gzip.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import kafkajs from 'kafkajs'

const { Kafka, CompressionTypes, logLevel } = kafkajs
const [scenario, bootstrap] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'tests', brokers: [bootstrap], logLevel: logLevel.ERROR, retry: { retries: 20, maxRetryTime: 2000 } })

const samples = 60
const largeIndex = 50
const firstTime = 1700000000000

// The i-th record that all clients write.
function sample(i) {
  const key = [null, Buffer.alloc(0), Buffer.from(`k${i}`)][i % 3]
  let value = [null, Buffer.alloc(0), Buffer.from(`v${i}`), Buffer.alloc((i * 37) % 5000, 97 + (i % 26))][i % 4]
  if (i === largeIndex) {
    value = Buffer.alloc(900_000)
    for (let j = 0; j < value.length; j++) value[j] = (j * j) % 251
  }
  const headers = i % 2 === 1 ? { h: String(i), empty: '' } : undefined
  return { partition: i % 2, timestamp: String(firstTime + i * 1000), key, value, headers }
}

async function write(producer, topic, from, to, options = {}) {
  const messages = []
  for (let i = from; i < to; i++) messages.push(sample(i))
  await producer.send({ topic, messages, ...options })
}

async function admin() {
  const admin = kafka.admin()
  await admin.connect()
  const topics = [{ topic: 'js-topic', numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '7777777' }] }]
  assert.equal(await admin.createTopics({ topics }), true)
  assert.equal(await admin.createTopics({ topics }), false, 'created twice')
  assert.ok((await admin.listTopics()).includes('js-topic'))
  const metadata = await admin.fetchTopicMetadata({ topics: ['js-topic'] })
  assert.deepEqual(metadata.topics[0].partitions.map((p) => p.leader), [1, 1, 1])
  const described = await admin.describeConfigs({ resources: [{ type: 2, name: 'js-topic', configNames: ['retention.ms'] }] })
  assert.equal(described.resources[0].configEntries[0].configValue, '7777777')
  const cluster = await admin.describeCluster()
  assert.equal(cluster.brokers.length, 1)
  assert.equal(cluster.controller, 1)
  await admin.deleteTopics({ topics: ['js-topic'] })
  const impatient = kafka.admin({ retry: { retries: 0 } }) // KafkaJS tries again where a topic is unknown.
  await impatient.connect()
  await assert.rejects(impatient.deleteTopics({ topics: ['js-topic'] }), /topic/)
  await impatient.disconnect()
  await admin.disconnect()
}

async function produce() {
  const plain = kafka.producer()
  const idempotent = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await Promise.all([plain.connect(), idempotent.connect()])
  for (const [codec, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP]]) {
    for (const [name, producer, acks] of [['0', plain, 0], ['1', plain, 1], ['all', plain, -1], ['idempotent', idempotent, -1]]) {
      for (let from = 0; from < samples; from += 20) {
        await write(producer, `js-${codec}-${name}`, from, from + 20, { acks, compression })
      }
    }
  }
  await Promise.all([plain.disconnect(), idempotent.disconnect()])
}

async function offsets() {
  const admin = kafka.admin()
  await admin.connect()
  const of = (list) => list.sort((a, b) => a.partition - b.partition).map((p) => Number(p.offset))
  assert.deepEqual(of(await admin.fetchTopicOffsets('js-offsets')), [30, 30])
  assert.deepEqual(of(await admin.fetchTopicOffsetsByTimestamp('js-offsets', firstTime + 20_001)), [11, 10])
  assert.deepEqual(of(await admin.fetchTopicOffsetsByTimestamp('js-offsets', firstTime * 2)), [30, 30], 'after the end')
  await admin.disconnect()
}

// The broker is started again between two lines of the input.
async function restart() {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  await write(producer, 'js-restart', 0, samples / 2)
  console.log('half')
  await new Promise((resolve) => createInterface({ input: process.stdin }).once('line', resolve))
  await write(producer, 'js-restart', samples / 2, samples)
  await producer.disconnect()
}

await { admin, produce, offsets, restart }[scenario]()
process.exit(0)
