"""FileZilla: its files of settings, its queue, and its window."""

import os
import sqlite3
import ssl
from xml.sax.saxutils import escape

from programs import Client, HERE, NotHere, PASSWORD, USER, first, package

SETTINGS = """<?xml version="1.0"?>
<FileZilla3><Settings>
<Setting name="Greeting version">99.0.0</Setting>
<Setting name="Disable update check">1</Setting>
<Setting name="Reconnect count">0</Setting>
<Setting name="Number of Transfers">{transfers}</Setting>
<Setting name="Logging file">{log}</Setting>
</Settings></FileZilla3>
"""
TRUSTED = """<?xml version="1.0"?>
<FileZilla3><TrustedCerts><Certificate>
<Data>{data}</Data><ActivationTime>946684800</ActivationTime><ExpirationTime>253402214400</ExpirationTime>
<Host>{host}</Host><Port>{port}</Port><TrustSANs>0</TrustSANs>
</Certificate></TrustedCerts></FileZilla3>
"""
# As FileZilla 3.63 makes them itself.
QUEUE = """PRAGMA encoding = "UTF-16le";
CREATE TABLE servers (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, host TEXT NOT NULL, port INTEGER,
  user TEXT, password TEXT, account TEXT, keyfile TEXT, protocol INTEGER, type INTEGER, logontype INTEGER,
  timezone_offset INTEGER, transfer_mode TEXT, max_connections INTEGER, encoding TEXT, bypass_proxy INTEGER,
  post_login_commands TEXT, name TEXT, parameters TEXT, site_path TEXT DEFAULT NULL);
CREATE TABLE files (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, server INTEGER NOT NULL, source_file TEXT,
  target_file TEXT, local_path INTEGER, remote_path INTEGER, size INTEGER, error_count INTEGER,
  priority INTEGER, flags INTEGER, default_exists_action INTEGER, extra_flags TEXT);
CREATE INDEX server_index ON files (server);
CREATE TABLE local_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
CREATE TABLE remote_paths (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, path TEXT NOT NULL);
PRAGMA user_version = 7;
INSERT INTO remote_paths (path) VALUES ('1 0');
"""
DOWNLOAD = 0x10
PROTOCOLS = {"implicit": 3, "explicit": 4}
OVERWRITE, RESUME = 1, 5


class FileZilla(Client):
    """Its queue has the transfers; it lists the directory by itself before them."""

    lists_unasked = True

    def version(self):
        for program in ("filezilla", "xvfb-run", "xdotool", "openbox"):
            first(["sh", "-c", f"command -v {program} || {{ echo no {program}; exit 1; }}"])
        return package("filezilla")

    def run(self, session):
        folder = os.path.join(session.home, ".config/filezilla")
        os.makedirs(folder)
        log = os.path.join(session.home, "filezilla.log")
        with open(session.certificate) as file:
            data = ssl.PEM_cert_to_DER_cert(file.read()).hex()
        parts = {
            "filezilla.xml": SETTINGS.format(log=escape(log), transfers=self.variant or 1),
            "trustedcerts.xml": TRUSTED.format(data=data, host=session.host, port=session.port),
        }
        for name, text in parts.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        self.fill(session, os.path.join(folder, "queue.sqlite3"))
        session.command(["xvfb-run", "-a", os.path.join(HERE, "filezilla/drive"), log],
                        environment={"XDG_CONFIG_HOME": os.path.join(session.home, ".config")})

    def fill(self, session, path):
        queue = sqlite3.connect(path)
        queue.executescript(QUEUE)
        queue.execute("INSERT INTO local_paths (path) VALUES (?)", (session.here + "/",))
        queue.execute("INSERT INTO servers (host, port, user, password, account, keyfile, protocol, type, logontype,"
                      " timezone_offset, transfer_mode, max_connections, encoding, bypass_proxy, post_login_commands,"
                      " name, parameters) VALUES (?, ?, ?, ?, '', '', ?, 0, 1, 0, 'default', 0, 'Auto', 0, '', '', '')",
                      (session.host, session.port, USER, PASSWORD, PROTOCOLS[session.kind]))
        for step in session.steps:
            verb, name = step.split(":")
            if verb == "list":
                continue
            download = verb in ("get", "reget")
            size = os.path.getsize(os.path.join(session.server.root if download else session.here, name))
            queue.execute("INSERT INTO files (server, source_file, local_path, remote_path, size, error_count, priority,"
                          " flags, default_exists_action) VALUES (1, ?, 1, 1, ?, 0, 2, ?, ?)",
                          (name, size, DOWNLOAD if download else 0, RESUME if verb.startswith("re") else OVERWRITE))
        queue.commit()
        queue.close()
