"""Twenty transfers in one session, up and down by turns."""
import io
import os

from clients import connect

ftp = connect()
for number in range(10):
    data = os.urandom(50_000 + number)
    ftp.storbinary(f"STOR {number}", io.BytesIO(data))
    kept = io.BytesIO()
    ftp.retrbinary(f"RETR {number}", kept.write)
    assert kept.getvalue() == data, number
ftp.quit()
