// The same bridge with node-coap and MQTT.js: answers after the broker's acknowledgement. Arguments: PORT QOS.
const coap = require('coap'), mqtt = require('mqtt'), dgram = require('dgram')
const [port, qos] = process.argv.slice(2).map(Number)
const client = mqtt.connect({ host: '127.0.0.1', port })
client.on('connect', () => {
  const probe = dgram.createSocket('udp4').bind(0, '127.0.0.1', () => {
    const chosen = probe.address().port
    probe.close(() => {
      const server = coap.createServer({ type: 'udp4' }, (request, answer) => {
        const path = request.url.split('?')[0].split('/')
        client.publish(`acme/read/${path[2]}/${path[path.length - 1]}`, request.payload, { qos }, () => {
          answer.code = '2.04'
          answer.end()
        })
      })
      server.listen(chosen, '127.0.0.1', () => console.log(chosen))
    })
  })
})
