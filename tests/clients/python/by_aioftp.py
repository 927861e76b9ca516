"""aioftp. Arguments: host, port, explicit or implicit, certificate file, variant, steps."""
import asyncio
import os
import ssl
import sys

import aioftp


async def main():
    host, port, tls, certificate, _, *steps = sys.argv[1:]
    context = ssl.create_default_context(cafile=certificate)
    client = aioftp.Client(ssl=context if tls == "implicit" else None, socket_timeout=30)
    await client.connect(host, int(port))
    if tls == "explicit":
        await client.upgrade_to_tls(context)
    await client.login("anna", "pass word")
    for step in steps:
        verb, name = step.split(":")
        if verb in ("put", "reput"):
            there = 0
            if verb == "reput":
                there = int((await client.stat(name))["size"])
            async with client.upload_stream(name, offset=there) as stream:
                with open(name, "rb") as file:
                    file.seek(there)
                    while block := file.read(65536):
                        await stream.write(block)
        elif verb in ("get", "reget"):
            with open(name, "ab") as file:
                async with client.download_stream(name, offset=os.path.getsize(name)) as stream:
                    async for block in stream.iter_by_block():
                        file.write(block)
        elif verb == "list":
            found = await client.list()
            with open(name, "w") as file:
                file.writelines(f"{path}\n" for path, _ in found)
    await client.quit()


asyncio.run(main())
