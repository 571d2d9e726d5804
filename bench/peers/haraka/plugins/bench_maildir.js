'use strict'
// Mail for the mailbox: a Maildir whose files are synced before the client hears 250, as with every durable peer.
// Mail for others goes to the one next hop, through Haraka's own queue.

const fs = require('node:fs')
const path = require('node:path')
const { Writable } = require('node:stream')

const LOCAL = 'example.org'

exports.register = function () {
    const settings = this.config.get('bench.json', 'json')
    this.next_hop = { priority: 0, exchange: '127.0.0.1', port: settings.next_hop }
    this.box = settings.maildir
    for (const name of ['tmp', 'new', 'cur']) fs.mkdirSync(path.join(this.box, name), { recursive: true })
}

// Nobody has a name here, and no question leaves this machine.
exports.hook_lookup_rdns = function (next) {
    next(OK, 'localhost')
}

exports.hook_rcpt = function (next, connection, params) {
    if (params[0].host !== LOCAL) connection.relaying = true
    next(OK)
}

exports.hook_queue = function (next, connection) {
    const plugin = this
    const name = `${connection.transaction.uuid}.haraka`
    const blocks = []
    const collect = new Writable({
        write(block, encoding, done) {
            blocks.push(block)
            done()
        },
    })
    collect.once('finish', () => plugin.deliver(name, blocks, next))
    connection.transaction.message_stream.pipe(collect, { line_endings: '\n' })
}

exports.deliver = function (name, blocks, next) {
    const plugin = this
    const from = path.join(plugin.box, 'tmp', name)
    const failed = (error) => {
        plugin.logerror(error.message)
        next(DENYSOFT)
    }
    fs.open(from, 'wx', 0o600, (error, file) => {
        if (error) return failed(error)
        fs.writev(file, blocks, (error) => {
            if (error) return failed(error)
            fs.fsync(file, (error) => {
                if (error) return failed(error)
                fs.close(file, (error) => {
                    if (error) return failed(error)
                    fs.rename(from, path.join(plugin.box, 'new', name), (error) => (error ? failed(error) : next(OK)))
                })
            })
        })
    })
}

exports.hook_get_mx = function (next) {
    next(OK, this.next_hop)
}
