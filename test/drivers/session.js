// What package drivers says, with node-postgres: node session.js session|loop
'use strict'
const assert = require('node:assert/strict')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const { Client, Pool } = require('pg')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const Cursor = require('pg-cursor')

// By require it means that the certificate is known, too; libpq does not.
const encrypted = process.env.PGSSLMODE === 'require' ? { ssl: { rejectUnauthorized: false } } : {}

async function session () {
  const pool = new Pool({ max: 4 })
  await pool.query('CREATE TABLE node (n int, s text)')
  // COPY both ways.
  const one = await pool.connect()
  await pipeline(
    Readable.from((function * () { for (let n = 0; n < 20000; n++) yield `${n}\trow ${n}\n` })()),
    one.query(copyFrom('COPY node FROM STDIN')))
  let bytes = 0
  for await (const chunk of one.query(copyTo('COPY (SELECT s FROM node ORDER BY n) TO STDOUT'))) bytes += chunk.length
  assert.equal(bytes, 168890 + 20000, 'a copy')
  // Statements that are prepared by name, of many sessions at once, in transactions and out of them.
  const ask = n => ({ name: 'ask', text: 'SELECT s FROM node WHERE n = $1', values: [n] })
  await Promise.all(Array.from({ length: 200 }, async (_, n) => {
    assert.equal((await pool.query(ask(n))).rows[0].s, `row ${n}`, 'prepared')
  }))
  // One session is told much before it has answered.
  const ahead = []
  for (let n = 0; n < 100; n++) ahead.push(one.query(n % 2 ? ask(n) : `SELECT s FROM node WHERE n = ${n}`))
  for (const [n, r] of (await Promise.all(ahead)).entries()) assert.equal(r.rows[0].s, `row ${n}`, 'one after another')
  await one.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY')
  assert.equal((await one.query(ask(7))).rows[0].s, 'row 7', 'prepared, in a transaction')
  const cursor = one.query(new Cursor('SELECT n FROM node ORDER BY n'))
  let sum = 0
  for (let rows; (rows = await cursor.read(1000)).length > 0;) for (const { n } of rows) sum += n
  assert.equal(sum, 199990000, "a server's cursor")
  await one.query('ROLLBACK')
  // A large result, and a large value.
  const large = await pool.query('SELECT repeat(s, 100) AS s FROM node')
  assert.equal(large.rows.reduce((sum, r) => sum + r.s.length, 0), 100 * 168890, 'a large result')
  assert.equal((await pool.query('SELECT length($1) AS n', ['x'.repeat(3 << 20)])).rows[0].n, 3 << 20, 'a large value')
  // An error ends the transaction, and not the session.
  await one.query('BEGIN')
  await assert.rejects(one.query('SELECT 1/0'), { code: '22012' })
  await assert.rejects(one.query('SELECT 1'), { code: '25P02' })
  await one.query('ROLLBACK')
  // Cancel, as soon as it runs.
  const slept = assert.rejects(one.query('SELECT pg_sleep(60)'), { code: '57014' })
  const nag = setInterval(() => {
    const other = new Client()
    other.on('error', () => {})
    other.cancel(one, one._activeQuery || one.activeQuery)
  }, 200)
  await slept
  clearInterval(nag)
  one.release(true) // a cancel request may still be on its way
  assert.equal((await pool.query('SELECT count(*)::int AS n FROM node')).rows[0].n, 20000, 'afterwards')
  await pool.query('DROP TABLE node')
  await pool.end()
  console.log('done')
}

// loop writes rows until its input ends, by statements that are prepared and such that are not.
async function loop () {
  let over = false
  let count = 0
  process.stdin.resume().on('end', () => { over = true })
  await Promise.all([0, 1, 2, 3].map(async i => {
    const c = new Client(encrypted)
    await c.connect()
    while (!over) {
      await c.query('BEGIN')
      if (i % 2) await c.query({ name: 'write', text: 'INSERT INTO written VALUES ($1, $2)', values: ['node-postgres', count] })
      else await c.query("INSERT INTO written VALUES ('node-postgres', 0)")
      await c.query('COMMIT')
      if (++count === 20) console.log('ready')
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    await c.end()
  }))
  console.log(count)
}

({ session, loop })[process.argv[2]]().catch(err => {
  console.error(err)
  process.exit(1)
})
