// A client of the atlas: asks for a page for each line that it reads, which is the method, and prints the status or the
// error. Set-up builds it: go build -o twlab-go-client go_client.go.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
)

func ask(client *http.Client, method, url string) (int, error) {
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader("hello\n")
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// The name of the error, and what it says.
func words(err error) string {
	name := "error"
	for _, known := range []struct {
		number syscall.Errno
		name   string
	}{{syscall.EADDRNOTAVAIL, "EADDRNOTAVAIL"}, {syscall.EADDRINUSE, "EADDRINUSE"}, {syscall.ECONNRESET, "ECONNRESET"}} {
		if errors.Is(err, known.number) {
			name = known.name
		}
	}
	if errors.Is(err, io.EOF) {
		name = "EOF"
	}
	return name + " " + err.Error()
}

func main() {
	if len(os.Args) < 4 {
		fmt.Println(runtime.Version()) // the source address follows, where there is one
		return
	}
	orders, url, closes := os.Args[1], os.Args[2], os.Args[3] == "close"
	dialer := &net.Dialer{}
	if len(os.Args) > 4 && os.Args[4] != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(os.Args[4])}
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, DisableKeepAlives: closes, IdleConnTimeout: http.DefaultTransport.(*http.Transport).IdleConnTimeout,
	}}
	file, err := os.Open(orders)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if status, err := ask(client, lines.Text(), url); err != nil {
			fmt.Println(words(err))
		} else {
			fmt.Println(status)
		}
	}
}
