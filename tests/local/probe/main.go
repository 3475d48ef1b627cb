// The tests' pod: says what it sees of the cluster from inside, then serves until it is stopped.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	if len(os.Args) > 2 {
		do(os.Args[1], os.Args[2:])
		return
	}
	host, _ := os.Hostname()
	addresses, err := net.LookupHost("kubernetes.default.svc.cluster.local")
	fmt.Println("resolved", strings.Join(addresses, " "), err)
	fmt.Println("api", askServer())
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		os.Exit(0)
	}()
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprintf(answer, "hello from %s", host) })
	fmt.Println(http.ListenAndServe(":8080", nil))
}

// do is what a test asks for: get URL, read FILE, write FILE TEXT, or give FILE away to user and group 1000.
func do(what string, arguments []string) {
	var err error
	switch what {
	case "get":
		fmt.Print(get(http.DefaultClient, arguments[0], ""))
	case "read":
		var content []byte
		content, err = os.ReadFile(arguments[0])
		fmt.Print(string(content))
	case "write":
		err = os.WriteFile(arguments[0], []byte(arguments[1]), 0o644)
	case "give":
		err = os.Chown(arguments[0], 1000, 1000)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// askServer calls the API server by its Service's name, as any client inside a pod does.
func askServer() string {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err.Error()
	}
	token, _ := os.ReadFile(account + "token")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return get(client, "https://kubernetes.default.svc/version", string(token))
}

func get(client *http.Client, url, token string) string {
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return fmt.Sprintf("%d %s", answer.StatusCode, strings.Join(strings.Fields(string(body)), " "))
}
