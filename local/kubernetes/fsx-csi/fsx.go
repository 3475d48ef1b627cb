package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// fsx is the API of FSx at this URL.
type fsx struct{ endpoint string }

type fileSystem struct {
	FileSystemId, DNSName, Lifecycle string
	LustreConfiguration              struct{ MountName string }
}

var client = http.Client{Timeout: 10 * time.Second}

// Signed by nobody: the fake AWS reads the service and region of a request out of its signature and checks no more.
const signature = "AWS4-HMAC-SHA256 Credential=AKIAFSXCSISTANDIN000/20260101/%s/fsx/aws4_request, SignedHeaders=host, Signature=none"

// at finds the file system that serves under a DNS name, and says why a client could not mount its mountName.
func (f fsx) at(dnsName, mountName string) (*fileSystem, error) {
	labels := strings.Split(dnsName, ".")
	if len(labels) != 5 || labels[1] != "fsx" || !strings.HasSuffix(dnsName, ".amazonaws.com") {
		return nil, fmt.Errorf("mount.lustre: Can't parse NID '%s@tcp': not the DNS name of a file system", dnsName)
	}
	found, err := f.describe(labels[0], labels[2])
	if err != nil {
		return nil, err
	}
	switch {
	case found == nil || found.DNSName != dnsName:
		return nil, fmt.Errorf("mount.lustre: Can't parse NID '%s@tcp': the name does not resolve, there is no such file system", dnsName)
	case found.Lifecycle != "AVAILABLE" && found.Lifecycle != "UPDATING" && found.Lifecycle != "MISCONFIGURED":
		return nil, fmt.Errorf("mount.lustre: Connection timed out: file system %s is %s", found.FileSystemId, found.Lifecycle)
	case found.LustreConfiguration.MountName != mountName:
		return nil, fmt.Errorf("mount.lustre: No such file or directory, is the filesystem name correct?: the MountName of %s is %q",
			found.FileSystemId, found.LustreConfiguration.MountName)
	}
	return found, nil
}

func (f fsx) describe(id, region string) (*fileSystem, error) {
	body, _ := json.Marshal(map[string][]string{"FileSystemIds": {id}})
	request, err := http.NewRequest(http.MethodPost, f.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "AWSSimbaAPIService_v20180301.DescribeFileSystems")
	request.Header.Set("Authorization", fmt.Sprintf(signature, region))
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the fake AWS does not answer: %w", err)
	}
	defer response.Body.Close()
	var answer struct {
		FileSystems []fileSystem
		Type        string `json:"__type"`
		Message     string `json:"message"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the fake AWS answered %s, no JSON: %w", response.Status, err)
	}
	switch {
	case strings.HasSuffix(answer.Type, "FileSystemNotFound"):
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the fake AWS answered %s %s: %s", response.Status, answer.Type, answer.Message)
	case len(answer.FileSystems) != 1:
		return nil, nil
	}
	return &answer.FileSystems[0], nil
}
