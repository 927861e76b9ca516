// The package `ftp`, which Node-RED's nodes use. Arguments: host, port, explicit or implicit,
// certificate file, variant, steps.
const fs = require("fs")
const path = require("path")
const Client = require("ftp")

const [host, port, kind, certificate, , ...steps] = process.argv.slice(2)
const client = new Client()
const call = (name, ...words) => new Promise((done, failed) =>
    client[name](...words, (error, result) => error ? failed(error) : done(result)))

async function receive(name, flags) {
    const from = await call("get", name)
    await new Promise((done, failed) => {
        from.on("error", failed)
        from.pipe(fs.createWriteStream(name, { flags })).on("error", failed).on("close", done)
    })
}

async function main() {
    const secureOptions = { ca: fs.readFileSync(certificate), host }
    await new Promise((done, failed) => {
        client.on("ready", done)
        client.on("error", failed)
        client.connect({ host, port: Number(port), user: "anna", password: "pass word",
            secure: kind === "implicit" ? "implicit" : true, secureOptions,
            connTimeout: 30000, pasvTimeout: 30000 })
    })
    await call("binary")
    for (const step of steps) {
        const [verb, name] = step.split(":")
        if (verb === "put") await call("put", path.resolve(name), name)
        else if (verb === "get") await receive(name, "w")
        else if (verb === "list")
            fs.writeFileSync(name, (await call("list")).map(one => one.name + "\n").join(""))
        else if (verb === "reget") {
            await call("restart", fs.statSync(name).size)
            await receive(name, "a")
        } else if (verb === "reput") {
            const there = await call("size", name)
            await call("append", fs.readFileSync(name).subarray(there), name)
        }
    }
    client.end()
}

main().catch(error => {
    console.error(String(error))
    process.exit(1)
})
