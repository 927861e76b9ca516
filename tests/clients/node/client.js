// basic-ftp. Arguments: host, port, explicit or implicit, certificate file, variant, steps.
const fs = require("fs")
const ftp = require("basic-ftp")

async function main([host, port, kind, certificate, , ...steps]) {
    const client = new ftp.Client(30000)
    try {
        await client.access({
            host, port: Number(port), user: "anna", password: "pass word",
            secure: kind === "implicit" ? "implicit" : true,
            secureOptions: { ca: fs.readFileSync(certificate), host },
        })
        for (const step of steps) {
            const [verb, name] = step.split(":")
            if (verb === "put") await client.uploadFrom(name, name)
            else if (verb === "get") await client.downloadTo(name, name)
            else if (verb === "list")
                fs.writeFileSync(name, (await client.list()).map(one => one.name + "\n").join(""))
            else if (verb === "reget") await client.downloadTo(name, name, fs.statSync(name).size)
            else if (verb === "reput")
                await client.appendFrom(name, name, { localStart: await client.size(name) })
            else throw new Error(step)
        }
    } finally {
        client.close()
    }
}

main(process.argv.slice(2)).catch(error => {
    console.error(String(error))
    process.exit(1)
})
