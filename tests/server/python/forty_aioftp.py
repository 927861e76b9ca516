"""As forty_ftplib.py, by aioftp with implicit TLS.

Arguments: host, port, certificate file, up-and-down or down, the directory of the client's files.
"""
import asyncio
import ssl
import sys

import aioftp


async def main():
    host, port, certificate, transfers, here = sys.argv[1:6]
    context = ssl.create_default_context(cafile=certificate)
    client = aioftp.Client(ssl=context, socket_timeout=30)
    await client.connect(host, int(port))
    await client.login("anna", "pass word")
    if transfers == "up-and-down":
        for number in range(20):
            with open(f"{here}/up-{number}", "rb") as file:
                async with client.upload_stream(f"up-{number}") as stream:
                    await stream.write(file.read())
    for number in range(20):
        with open(f"{here}/down-{number}", "wb") as file:
            async with client.download_stream(f"down-{number}") as stream:
                async for block in stream.iter_by_block():
                    file.write(block)
    await client.quit()


asyncio.run(main())
