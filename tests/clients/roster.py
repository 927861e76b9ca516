"""Every client that is tried, in the order of the table."""

import glob
import os
import subprocess

from programs import (Curl, HERE, Lftp, NotHere, PYTHON, Program, Rclone, Wget, built, first, package)
from prompts import Gftp, PLAIN, Prompt
from window import FileZilla


def script(*parts):
    return os.path.join(HERE, *parts)


def module(code):
    return lambda: first([PYTHON, "-c", code]).split()[-1]


def python(name, interpreter=lambda: PYTHON):
    return lambda: [interpreter(), "-B", script("python", name)]


def pycurl_version():
    text = first([PYTHON, "-c", "import pycurl; v = pycurl.version; assert 'GnuTLS' in v; print(v)"])
    return text.split("libcurl/")[1].split()[0]


def newer():
    """Python with what `make clients` took from PyPI."""
    path = os.path.join(built(), "venv/bin/python")
    if not os.path.exists(path):
        raise NotHere("no virtual environment: make clients")
    return path


class Java(Program):
    JAR = "/usr/share/java/commons-net.jar"

    def build(self):
        if not os.path.exists(self.JAR):
            raise NotHere(f"no {self.JAR}")
        first(["javac", "-version"])
        os.makedirs(built(), exist_ok=True)
        subprocess.run(["javac", "-cp", self.JAR, "-d", built(), script("java", "Client.java")], check=True)


class Go(Program):
    def build(self):
        first(["go", "version"])
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode",
                       "GOCACHE": os.path.join(built(), "go-cache"), "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", os.path.join(built(), "go-client"), script("go", "client.go")],
                       check=True, env=environment)


class Mono(Program):
    def build(self):
        first(["mono", "--version"])
        os.makedirs(built(), exist_ok=True)
        subprocess.run(["mcs", "-warnaserror-", f"-out:{built()}/Client.exe", script("mono", "Client.cs")], check=True)


def java_version():
    jars = glob.glob("/usr/share/java/commons-net-*.jar")
    if not jars:
        raise NotHere("no commons-net.jar")
    number = os.path.basename(jars[0])[len("commons-net-"):-len(".jar")]
    return f"{number}, Java {first(['javac', '-version']).split()[1].split('.')[0]}"


def java():
    return ["java", "-cp", f"{built()}:{Java.JAR}", "Client"]


def php():
    return ["php", script("php/client.php")]


def php_version():
    return first(["php", "-r", "function_exists('ftp_ssl_connect') || exit(1); echo PHP_VERSION;"])


def ruby():
    return ["ruby", script("ruby/client.rb")]


def ruby_version():
    return first(["ruby", "-rnet/ftp", "-e", "print RUBY_VERSION"])


def perl():
    return ["perl", script("perl/client.pl")]


def perl_version():
    return first(["perl", "-MNet::FTP", "-e", "Net::FTP->can_ssl or die 'no SSL'; print Net::FTP->VERSION"])


def mono():
    return ["mono", os.path.join(built(), "Client.exe")]


def mono_version():
    return first(["mono", "--version"]).split()[4]


def go():
    return [os.path.join(built(), "go-client")]


def go_version():
    """It has no releases but tags that Debian has not followed: the day of what was packed."""
    text = first(["dpkg-query", "-W", "-f", "${Version}", "golang-github-jlaffaye-ftp-dev"])
    return f"{text.split('git')[1].split('.')[0]}, Go {first(['go', 'version']).split()[2][2:]}"


def node_version(package):
    code = f"console.log(require('{package}/package.json').version, process.version)"
    try:
        done = subprocess.run(["node", "-e", code], cwd=built(), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise NotHere(f"no package {package}: make clients") from None
    version, node = done.stdout.decode().split()
    return f"{version}, Node {node.lstrip('v').split('.')[0]}"


NODE = {"NODE_PATH": os.path.join(built(), "node_modules")}

SSL = ["-n", "-i", "-p", "-z", "secure", "-z", "verify=1", "-z", "cacert={certificate}"]

CLIENTS = [
    FileZilla("filezilla", "FileZilla {}"),
    FileZilla("filezilla-two", "FileZilla {}, two transfers at once", 2),
    Curl("curl", "curl {}"),
    Curl("curl-1.2", "curl {}, `--tls-max 1.2`", "--tls-max 1.2", "1.2"),
    Program("pycurl", "curl {} with GnuTLS, by pycurl", python("by_pycurl.py"), pycurl_version),
    Program("pycurl-1.2", "curl {} with GnuTLS, by pycurl, `SSLVERSION_MAX_TLSv1_2`", python("by_pycurl.py"),
            pycurl_version, "tls12", pinned="1.2"),
    Lftp("lftp", "lftp {}"),
    Wget("wget", "wget {}"),
    Program("ftplib", "Python {} `ftplib`", python("by_ftplib.py"), lambda: first([PYTHON, "--version"]).split()[1], "stock"),
    Program("ftplib-session", "Python {} `ftplib`, class below", python("by_ftplib.py"),
            lambda: first([PYTHON, "--version"]).split()[1], "session"),
    Program("aioftp", "aioftp {} (Debian)", python("by_aioftp.py"), module("import aioftp; print(aioftp.__version__)"),
            kinds=("implicit",)),
    Program("aioftp-new", "aioftp {}", python("by_aioftp.py", newer),
            lambda: first([newer(), "-c", "import importlib.metadata as m; print(m.version('aioftp'))"]).strip()),
    Java("java", "Java commons-net {}", java, java_version, "stock"),
    Java("java-resuming", "Java commons-net {}, class below", java, java_version, "resuming"),
    Java("java-1.2", "Java commons-net {}, class below, `TLSv1.2`", java, java_version, "TLSv1.2", pinned="1.2"),
    Mono("mono", ".NET `FtpWebRequest`, Mono {}", mono, mono_version, kinds=("explicit",), pinned="1.2",
         extra='truncated-uploads = "accept-fin"'),
    Program("php", "PHP {} `ftp_ssl_connect`", php, php_version, kinds=("explicit",)),
    Program("php-1.2", "PHP {} `ftp_ssl_connect`, `MaxProtocol`", php, php_version, kinds=("explicit",),
            environment={"OPENSSL_CONF": script("php/openssl.cnf")}, pinned="1.2"),
    Program("perl", "Perl Net::FTP {}", perl, perl_version, "stock"),
    Program("perl-resuming", "Perl Net::FTP {}, line below", perl, perl_version, "resuming", pinned="1.2"),
    # implicit_ftps came after this version.
    Program("ruby", "Ruby {} `Net::FTP`", ruby, ruby_version, "stock", kinds=("explicit",)),
    Program("ruby-1.2", "Ruby {} `Net::FTP`, `max_version`", ruby, ruby_version, "1.2", kinds=("explicit",), pinned="1.2"),
    Program("node", "basic-ftp {}", lambda: ["node", script("node/client.js")], lambda: node_version("basic-ftp"),
            environment=NODE),
    # With implicit TLS it waits for ever.
    Program("node-ftp", "Node-RED's `ftp` {}", lambda: ["node", script("node/by_ftp.js")],
            lambda: node_version("ftp"), kinds=("explicit",), environment=NODE),
    Rclone("rclone", "rclone {}"),
    Rclone("rclone-one", "rclone {}, `--ftp-concurrency 1 --transfers 1 --checkers 1`",
           "--ftp-concurrency 1 --transfers 1 --checkers 1"),
    Rclone("rclone-no-cache", "rclone {}, `--ftp-tls-cache-size 0`", "--ftp-tls-cache-size 0"),
    Go("go", "Go jlaffaye/ftp {}", go, go_version, "stock"),
    Go("go-cache", "Go jlaffaye/ftp {}, `ClientSessionCache`", go, go_version, "cache"),
    Gftp("gftp", "gFTP {}", extra="sessions-per-address = 16"),
    Prompt("ftp-ssl", "ftp-ssl {}", "ftp-ssl", SSL, ("explicit",), extra='truncated-uploads = "accept-fin"'),
    *PLAIN,
]
