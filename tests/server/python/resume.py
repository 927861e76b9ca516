"""Goes on with an upload where the server says it is: SIZE, REST, STOR. Further arguments: the file
here, its name there, bytes a second."""
import ftplib
import sys
import time

from clients import connect

path, name, rate = sys.argv[6], sys.argv[7], int(sys.argv[8])
ftp = connect()
ftp.voidcmd("TYPE I")
try:
    arrived = ftp.size(name)
except ftplib.error_perm as error:
    assert str(error).startswith("550"), error
    arrived = 0
with open(path, "rb") as file:
    file.seek(arrived)
    ftp.storbinary(
        "STOR " + name,
        file,
        blocksize=16384,
        callback=lambda block: time.sleep(len(block) / rate),
        rest=arrived or None,
    )
ftp.quit()
