"""Clients on the host: Python's ftplib, curl and lftp."""

import ftplib
import hashlib
import io
import shutil
import ssl
import subprocess

USER, PASSWORD = "operator", "board password"
HASH = ("$6$boardboardboard1$VW88EasEbBSGKMR8ctk/WldFSeO6uM1rWkbhgWzdreFBCNrqWfjW54ix10CT1JM3PJa68"
        "sIefskfRjNAbzC210")


class Ftps(ftplib.FTP_TLS):
    """FTP over TLS whose data connections resume the session of the control connection."""

    def __init__(self, port, authority, user=USER, timeout=300):
        context = ssl.create_default_context(cafile=authority)
        # The board's name is the certificate's; it is reached by a forwarded port.
        context.check_hostname = False
        super().__init__(context=context, timeout=timeout)
        self.connect("127.0.0.1", port)
        self.login(user, PASSWORD)
        self.prot_p()

    def ntransfercmd(self, cmd, rest=None):
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        return self.context.wrap_socket(connection, session=self.sock.session), size

    def put(self, name, data, rest=None):
        """Upload; returns when 226 is there."""
        return self.storbinary("STOR " + name, io.BytesIO(data), 65536, rest=rest)

    def fetch(self, name):
        """Download."""
        pieces = []
        self.retrbinary("RETR " + name, pieces.append, 65536)
        return b"".join(pieces)

    def begin_put(self, name, rest=None):
        """The data connection of an upload whose bytes the caller sends."""
        self.voidcmd("TYPE I")
        connection, _ = self.ntransfercmd("STOR " + name, rest)
        return connection

    def end_put(self, connection):
        """The end of that upload, 226 included."""
        connection.unwrap()
        connection.close()
        return self.voidresp()

    def try_put(self, name, data, whole=True):
        """The reply to an upload that is not expected to succeed. One that is not whole ends without
        TLS close_notify."""
        try:
            connection = self.begin_put(name)
        except ftplib.Error as refused:
            return str(refused)
        try:
            connection.sendall(data)
            if whole:
                connection.unwrap()
        except OSError:
            pass
        connection.close()
        try:
            return self.voidresp()
        except ftplib.Error as refused:
            return str(refused)


def digest(data):
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def curl(port, authority, *arguments, scheme="ftp", limit=600):
    """Run curl against the board, its certificate being checked."""
    *options, path = arguments
    return subprocess.run(
        ["curl", "-sS", "--ssl-reqd", "--cacert", authority, "--resolve", f"board:{port}:127.0.0.1",
         "-u", f"{USER}:{PASSWORD}", *options, f"{scheme}://board:{port}/{path}"],
        check=True, timeout=limit, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def lftp(port, authority, commands, limit=600):
    """Run lftp against the board."""
    settings = (f"set ssl:ca-file {authority}; set ssl:check-hostname no; set ftp:ssl-force yes; "
                "set ftp:ssl-protect-data yes; set net:max-retries 2; set net:timeout 300; "
                "set cmd:fail-exit yes; ")
    return subprocess.run(
        ["lftp", "--norc", "-c", settings + f"open -u '{USER},{PASSWORD}' ftp://127.0.0.1:{port}; " + commands],
        check=True, timeout=limit, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def missing():
    """Programs of the host that are not there, with the Debian packages that have them."""
    programs = {"curl": "curl", "lftp": "lftp", "mkfs.ext4": "e2fsprogs", "mkfs.vfat": "dosfstools"}
    return [package for program, package in programs.items() if shutil.which(program) is None]
