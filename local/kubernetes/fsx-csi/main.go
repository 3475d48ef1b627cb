// A stand-in for the node plugin of aws-fsx-csi-driver: registers as fsx.csi.aws.com and mounts what a fake FSx holds.
//
// A file system is a folder; mounting it is a bind mount. What a real mount needs is checked as a real mount would fail: the
// file system must exist and be usable, and dnsname and mountname must be its own. Mount options other than ro are not looked at,
// and a directory below the root ("mountname/directory") cannot be mounted.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/mount-utils"
)

const driver = "fsx.csi.aws.com"

func main() {
	node := flag.String("node", "", "name of the node")
	kubelet := flag.String("kubelet", "/var/lib/kubelet", "the kubelet's root folder")
	data := flag.String("data", "", "folder that holds one folder for each file system")
	endpoint := flag.String("endpoint", "", "URL of the fake AWS")
	flag.Parse()
	socket := filepath.Join(*kubelet, "plugins", driver, "csi.sock")
	fail := make(chan error)
	go func() {
		server := grpc.NewServer(grpc.UnaryInterceptor(logged))
		csi.RegisterIdentityServer(server, identity{})
		csi.RegisterNodeServer(server, &plugin{name: *node, data: *data, fsx: fsx{*endpoint}, mounter: mount.NewWithoutSystemd("")})
		fail <- serve(server, socket)
	}()
	go func() {
		server := grpc.NewServer(grpc.UnaryInterceptor(logged))
		registration.RegisterRegistrationServer(server, registrar{socket: socket})
		fail <- serve(server, filepath.Join(*kubelet, "plugins_registry", driver+"-reg.sock"))
	}()
	log.Fatal(<-fail)
}

// serve listens on a socket file; one that a killed plugin left is removed.
func serve(server *grpc.Server, socket string) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

func logged(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	answer, err := handler(ctx, request)
	if err != nil {
		log.Printf("%s: %v", info.FullMethod, err)
	}
	return answer, err
}

// registrar tells the kubelet where the plugin is, as the sidecar node-driver-registrar does.
type registrar struct {
	registration.UnimplementedRegistrationServer
	socket string
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: driver, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		return nil, fmt.Errorf("the kubelet refused the plugin: %s", status.Error)
	}
	log.Print("registered")
	return &registration.RegistrationStatusResponse{}, nil
}

type identity struct {
	csi.UnimplementedIdentityServer
}

func (identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driver, VendorVersion: "penstock-local"}, nil
}

func (identity) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}
