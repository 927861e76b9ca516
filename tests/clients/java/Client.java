// Apache commons-net. Arguments: host, port, explicit or implicit, certificate file, stock,
// resuming or TLSv1.2, steps.

import java.io.*;
import java.net.Socket;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;
import org.apache.commons.net.DefaultSocketFactory;
import org.apache.commons.net.ftp.*;

/** Its data connections resume the control connection's TLS session. CLIENTS.md has this class. */
class ResumingClient extends FTPSClient {
    private final SSLContext context;

    ResumingClient(boolean isImplicit, SSLContext context) {
        super(isImplicit, context);
        this.context = context;
    }

    // Java finds a TLS session again by the server's name and port, so the sockets of data
    // connections tell the control connection's port.
    @Override
    public void execPROT(String level) throws SSLException, IOException {
        super.execPROT(level);
        setSocketFactory(new DefaultSocketFactory() {
            @Override public Socket createSocket() {
                return new Socket() {
                    @Override public int getPort() { return getRemotePort(); }
                };
            }
        });
    }

    @Override
    protected Socket _openDataConnection_(String command, String argument) throws IOException {
        Socket plain = super._openDataConnection_(command, argument);
        if (plain == null) return null;
        String host = ((SSLSocket) _socket_).getSession().getPeerHost();
        SSLSocket data = (SSLSocket) context.getSocketFactory()
            .createSocket(plain, host, plain.getPort(), true);
        data.startHandshake();
        return data;
    }
}

public class Client {
    static FTPSClient client;

    static void check(boolean done) throws IOException {
        if (!done) throw new IOException(client.getReplyString().trim());
    }

    static void step(String verb, String name) throws IOException {
        Path file = Paths.get(name);
        switch (verb) {
            case "put":
                try (InputStream from = Files.newInputStream(file)) {
                    check(client.storeFile(name, from));
                }
                break;
            case "get":
                try (OutputStream to = Files.newOutputStream(file)) {
                    check(client.retrieveFile(name, to));
                }
                break;
            case "list":
                FTPFile[] found = client.listFiles();
                try (PrintWriter to = new PrintWriter(name)) {
                    for (FTPFile one : found) to.println(one.getName());
                }
                check(FTPReply.isPositiveCompletion(client.getReplyCode()));
                break;
            case "reget":
                client.setRestartOffset(Files.size(file));
                try (OutputStream to = Files.newOutputStream(file, StandardOpenOption.APPEND)) {
                    check(client.retrieveFile(name, to));
                }
                break;
            case "reput":
                check(client.sendCommand("SIZE", name) == 213);
                long there = Long.parseLong(client.getReplyString().substring(4).trim());
                client.setRestartOffset(there);
                try (InputStream from = Files.newInputStream(file)) {
                    from.skip(there);
                    check(client.storeFile(name, from));
                }
                break;
            default:
                throw new IOException("no step " + verb);
        }
    }

    public static void main(String[] given) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (InputStream file = new FileInputStream(given[3])) {
            trusted.setCertificateEntry("server",
                CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance(given[4].equals("TLSv1.2") ? "TLSv1.2" : "TLS");
        context.init(null, trust.getTrustManagers(), null);
        boolean isImplicit = given[2].equals("implicit");
        client = given[4].equals("stock")
            ? new FTPSClient(isImplicit, context) : new ResumingClient(isImplicit, context);
            client.setDefaultTimeout(30000);
        client.setConnectTimeout(30000);
        client.setDataTimeout(30000);
        client.connect(given[0], Integer.parseInt(given[1]));
        check(FTPReply.isPositiveCompletion(client.getReplyCode()));
        check(client.login("anna", "pass word"));
        client.execPBSZ(0);
        client.execPROT("P");
        client.enterLocalPassiveMode();
        check(client.setFileType(FTP.BINARY_FILE_TYPE));
        for (int number = 5; number < given.length; number++) {
            String[] words = given[number].split(":", 2);
            step(words[0], words[1]);
        }
        client.logout();
        client.disconnect();
    }
}
