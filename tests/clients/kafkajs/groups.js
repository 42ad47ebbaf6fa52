// KafkaJS with groups and transactions: node groups.js BOOTSTRAP. Two members
// read the topic "js" as a group and write what they read to "js.out", each
// batch and its offsets in one transaction; some are aborted and done again.
// Amid the work it says "half" and waits for a line of input.
import { createInterface } from 'node:readline'
import kafkajs from 'kafkajs'

const { Kafka, logLevel } = kafkajs
const [bootstrap] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'tests', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 30, initialRetryTime: 50, maxRetryTime: 500 } })
const numbers = 120
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

let done = 0
let turns = 0
let restart // The promise of it: nobody goes on before.
let finish
const finished = new Promise((resolve) => { finish = resolve })

async function member(index) {
  const consumer = kafka.consumer({ groupId: 'js', sessionTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 100, maxBytesPerPartition: 500 })
  const producer = kafka.producer({ transactionalId: `js-${index}`, idempotent: true, maxInFlightRequests: 1 })
  await Promise.all([consumer.connect(), producer.connect()])
  await consumer.subscribe({ topic: 'js', fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
      if (!isRunning() || isStale()) return
      const messages = batch.messages.slice(0, 8)
      const last = messages[messages.length - 1].offset
      const transaction = await producer.transaction()
      await transaction.send({ topic: 'js.out', messages: messages.map(({ value }) => ({ value, partition: batch.partition })) })
      if (done >= numbers / 2 && !restart) {
        console.log('half')
        restart = input.next()
      }
      if (restart) await restart
      const offset = String(BigInt(last) + 1n)
      await transaction.sendOffsets({ consumerGroupId: 'js', topics: [{ topic: 'js', partitions: [{ partition: batch.partition, offset }] }] })
      if (++turns % 3 === 0) {
        await transaction.abort()
        const first = messages[0].offset
        consumer.seek({ topic: 'js', partition: batch.partition, offset: first })
        return
      }
      await transaction.commit()
      resolveOffset(last)
      done += messages.length
      await heartbeat()
      if (done >= numbers) finish()
    },
  })
  return async () => { await consumer.disconnect(); await producer.disconnect() }
}

const leave = [await member(0), await member(1)]
await finished
for (const f of leave) await f()
process.exit(0)
