// The same job for npm's mqtt (MQTT.js). NODE_PATH says where it is installed.
const mqtt = require('mqtt')
const job = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const messages = []
const v5 = job.version === 5
const options = {
  host: '127.0.0.1', port: job.port, protocol: 'mqtt', protocolVersion: job.version, clientId: job.clientId,
  username: job.username, password: job.password, clean: job.clean, reconnectPeriod: 0, connectTimeout: 50000
}
if (v5) options.properties = { sessionExpiryInterval: job.clean ? 0 : 100 }
if (job.will) options.will = { topic: job.will.topic, payload: job.will.payload, qos: job.will.qos }
const client = mqtt.connect(options)

function say (answer) { process.stdout.write(JSON.stringify(answer) + '\n', () => process.exit(0)) }

function wanted (said) {
  const properties = { ...said }
  if (said.correlationData) properties.correlationData = Buffer.from(said.correlationData)
  if (said.payloadFormatIndicator !== undefined) properties.payloadFormatIndicator = said.payloadFormatIndicator === 1
  if (said.userProperties) {
    properties.userProperties = {}
    for (const [name, value] of said.userProperties) {
      properties.userProperties[name] = (properties.userProperties[name] || []).concat(value)
    }
  }
  return properties
}

function told (found) {
  const properties = {}
  for (const name of ['contentType', 'responseTopic', 'messageExpiryInterval']) {
    if (found[name] !== undefined) properties[name] = found[name]
  }
  if (found.payloadFormatIndicator !== undefined) properties.payloadFormatIndicator = found.payloadFormatIndicator ? 1 : 0
  if (found.correlationData) properties.correlationData = found.correlationData.toString()
  if (found.userProperties) {
    properties.userProperties = []
    for (const name of Object.keys(found.userProperties)) {
      for (const value of [].concat(found.userProperties[name])) properties.userProperties.push([name, value])
    }
  }
  return properties
}

client.on('error', error => say({ refused: String(error.message) }))
client.on('message', (topic, payload, packet) => messages.push({
  topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, properties: told(packet.properties || {})
}))
client.once('connect', async connack => {
  let granted = []
  if (job.subscribe.length) {
    const filters = {}
    for (const [topic, qos] of job.subscribe) filters[topic] = { qos }
    granted = await new Promise(resolve => client.subscribe(filters, (error, codes, packet) => {
      resolve(packet && packet.granted ? packet.granted : (codes || []).map(code => code.qos))
    }))
  }
  for (const item of job.publish) {
    const how = { qos: item.qos, retain: Boolean(item.retain) }
    if (item.properties) how.properties = wanted(item.properties)
    await client.publishAsync(item.topic, item.payload, how)
  }
  const end = Date.now() + 50000
  while (messages.length < job.expect && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 2))
  if (job.hang) return process.stdout.write('hanging\n')
  await client.endAsync()
  say({ sessionPresent: connack.sessionPresent, granted, messages })
})
