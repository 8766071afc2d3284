// Mirror / with Go's golang.org/x/crypto/ssh and github.com/pkg/sftp: PORT USER KEY PASSWORD INTO
package main

import (
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	port, user, key, password, into := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	proof := ssh.Password(password)
	if password == "" {
		text, err := os.ReadFile(key)
		must(err)
		signer, err := ssh.ParsePrivateKey(text)
		must(err)
		proof = ssh.PublicKeys(signer)
	}
	config := &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{proof}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	connection, err := ssh.Dial("tcp", "127.0.0.1:"+port, config)
	must(err)
	client, err := sftp.NewClient(connection)
	must(err)
	for walker := client.Walk("/"); walker.Step(); {
		must(walker.Err())
		local := filepath.Join(into, walker.Path())
		if walker.Stat().IsDir() {
			must(os.MkdirAll(local, 0o755))
			continue
		}
		from, err := client.Open(walker.Path())
		must(err)
		to, err := os.Create(local)
		must(err)
		_, err = io.Copy(to, from)
		must(err)
		must(to.Close())
		must(from.Close())
	}
	must(connection.Close())
}
