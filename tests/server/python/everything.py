"""Every method of ftplib that moves a file, lists or changes something, in one session."""
import io
import os

from clients import connect

ftp = connect()
assert ftp.sock.version() is not None
data = os.urandom(300_000)


def retrieve(name, rest=None):
    kept = io.BytesIO()
    ftp.retrbinary("RETR " + name, kept.write, rest=rest)
    return kept.getvalue()


# Files.
ftp.storbinary("STOR file", io.BytesIO(data))
assert retrieve("file") == data
assert retrieve("file", rest=123_457) == data[123_457:]
ftp.storbinary("STOR empty", io.BytesIO())
assert retrieve("empty") == b""
ftp.voidcmd("TYPE I")
assert ftp.size("file") == len(data)
assert ftp.size("empty") == 0
reply = ftp.sendcmd("MDTM file")
assert reply.startswith("213 ") and len(reply) == 4 + 14, reply

# An upload that is cut, and gone on with by REST and STOR.
ftp.voidcmd("TYPE I")
conn = ftp.transfercmd("STOR cut")
conn.sendall(data[:100_000])
conn.close()
try:
    ftp.voidresp()
    raise SystemExit("a cut upload was taken for a whole one")
except Exception as error:
    assert str(error).startswith("426"), error
assert "cut" not in ftp.nlst()
ftp.voidcmd("TYPE I")
arrived = ftp.size("cut")
assert 0 < arrived <= 100_000, arrived
ftp.storbinary("STOR cut", io.BytesIO(data[arrived:]), rest=arrived)
assert retrieve("cut") == data

# Text: lines end in CRLF on the wire and in LF in the file.
ftp.storlines("STOR text", io.BytesIO(b"one\ntwo\nthree"))
lines = []
ftp.retrlines("RETR text", lines.append)
assert lines == ["one", "two", "three"], lines
assert retrieve("text") == b"one\ntwo\nthree\n"

# Listings.
assert sorted(ftp.nlst()) == ["cut", "empty", "file", "text"]
lines = []
ftp.dir(lines.append)
assert sorted(line.split()[-1] for line in lines) == ["cut", "empty", "file", "text"], lines
facts = dict(ftp.mlsd())
assert facts["file"]["type"] == "file" and facts["file"]["size"] == str(len(data)), facts
assert [name for name, _ in ftp.mlsd("", ["type"])] and "size" not in dict(
    ftp.mlsd("", ["type"])
)["file"]

# Changes.
assert ftp.mkd("a \"b\" c") == "/a \"b\" c"
ftp.cwd("a \"b\" c")
assert ftp.pwd() == "/a \"b\" c"
ftp.rename("/file", "moved")
assert ftp.nlst() == ["moved"]
ftp.cwd("..")
assert ftp.pwd() == "/"
ftp.delete("a \"b\" c/moved")
ftp.rmd("a \"b\" c")
for name in ["cut", "empty", "text"]:
    ftp.delete(name)
assert ftp.nlst() == []
assert ftp.quit().startswith("221")
