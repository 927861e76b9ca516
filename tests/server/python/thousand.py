"""A thousand small files in one session, up and down by turns."""
import io

from clients import connect

ftp = connect()
data = b"content" * 100
for number in range(500):
    ftp.storbinary("STOR up", io.BytesIO(data))
    kept = io.BytesIO()
    ftp.retrbinary("RETR up", kept.write)
    assert kept.getvalue() == data, number
ftp.quit()
