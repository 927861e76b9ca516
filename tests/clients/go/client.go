// jlaffaye/ftp. Arguments: host, port, explicit or implicit, certificate file, stock or cache,
// steps.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jlaffaye/ftp"
)

func step(client *ftp.ServerConn, verb, name string) error {
	switch verb {
	case "put":
		bytesOf, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return client.Stor(name, bytes.NewReader(bytesOf))
	case "get", "reget":
		file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0644)
		if err != nil {
			return err
		}
		defer file.Close()
		size, err := file.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		from, err := client.RetrFrom(name, uint64(size))
		if err != nil {
			return err
		}
		if _, err = io.Copy(file, from); err != nil {
			from.Close()
			return err
		}
		return from.Close()
	case "list":
		found, err := client.NameList(".")
		if err != nil {
			return err
		}
		return os.WriteFile(name, []byte(strings.Join(found, "\n")+"\n"), 0644)
	case "reput":
		there, err := client.FileSize(name)
		if err != nil {
			return err
		}
		bytesOf, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return client.StorFrom(name, bytes.NewReader(bytesOf[there:]), uint64(there))
	}
	return fmt.Errorf("no step %s", verb)
}

func run(host, port, kind, certificate, variant string, steps []string) error {
	pem, err := os.ReadFile(certificate)
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	config := &tls.Config{ServerName: host, RootCAs: trusted}
	if variant == "cache" {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	secure := ftp.DialWithExplicitTLS(config)
	if kind == "implicit" {
		secure = ftp.DialWithTLS(config)
	}
	client, err := ftp.Dial(host+":"+port, secure, ftp.DialWithTimeout(30*time.Second))
	if err != nil {
		return err
	}
	if err = client.Login("anna", "pass word"); err != nil {
		return err
	}
	for _, given := range steps {
		verb, name, _ := strings.Cut(given, ":")
		if err = step(client, verb, name); err != nil {
			return fmt.Errorf("%s: %w", given, err)
		}
	}
	return client.Quit()
}

func main() {
	given := os.Args
	if err := run(given[1], given[2], given[3], given[4], given[5], given[6:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
