"""ftplib in active mode, data connections over TLS."""
import io
import os

from clients import connect

ftp = connect()
ftp.set_pasv(False)
data = os.urandom(200_000)
assert ftp.storbinary("STOR file", io.BytesIO(data)).startswith("226")
for rest in (None, 123_457):
    back = io.BytesIO()
    ftp.retrbinary("RETR file", back.write, rest=rest)
    assert back.getvalue() == data[rest or 0:]
assert ftp.nlst() == ["file"]
ftp.delete("file")
ftp.quit()
