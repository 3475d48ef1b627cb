package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"
)

// plugin answers what the kubelet asks; like the real one it publishes and unpublishes, and knows no staging and no statistics.
type plugin struct {
	csi.UnimplementedNodeServer
	name, data string
	fsx        fsx
	mounter    mount.Interface
}

func (p *plugin) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: p.name}, nil
}

func (p *plugin) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodePublishVolume mounts; asked again it finds the mount and is content.
func (p *plugin) NodePublishVolume(
	_ context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	target, attributes := request.GetTargetPath(), request.GetVolumeContext()
	if attributes["dnsname"] == "" {
		return nil, status.Error(codes.InvalidArgument, "dnsname is not provided in the volume's volumeAttributes")
	}
	capability := request.GetVolumeCapability()
	mode := capability.GetAccessMode().GetMode()
	if capability.GetMount() == nil ||
		(mode != csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER && mode != csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER) {
		return nil, status.Errorf(codes.InvalidArgument,
			"Volume capability not supported: %v (file systems with ReadWriteOnce or ReadWriteMany are)", mode)
	}
	mountName := attributes["mountname"]
	if mountName == "" {
		mountName = "fsx" // the real driver's default, which fits SCRATCH_1 only
	}
	if mounted, err := p.mounted(target); err != nil || mounted {
		return &csi.NodePublishVolumeResponse{}, err
	}
	source := attributes["dnsname"] + "@tcp:/" + mountName
	found, err := p.fsx.at(attributes["dnsname"], mountName)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "Could not mount %q at %q: %v", source, target, err)
	}
	options := []string{"bind"}
	for _, option := range capability.GetMount().GetMountFlags() {
		if option == "ro" {
			options = append(options, "ro")
		}
	}
	if request.GetReadonly() {
		options = append(options, "ro")
	}
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, status.Errorf(codes.Internal, "Could not create dir %q: %v", target, err)
	}
	if err := p.mounter.Mount(filepath.Join(p.data, found.FileSystemId), target, "", options); err != nil {
		_ = os.Remove(target)
		return nil, status.Errorf(codes.Internal, "Could not mount %q at %q: %v", source, target, err)
	}
	log.Printf("mounted %s at %s %v", source, target, options)
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume unmounts and removes the folder; nothing there is no error. It never removes a folder that is not empty.
func (p *plugin) NodeUnpublishVolume(
	_ context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	mounted, err := p.mounted(target)
	if err != nil {
		return nil, err
	}
	if mounted {
		if err := p.mounter.Unmount(target); err != nil {
			return nil, status.Errorf(codes.Internal, "Could not unmount %q: %v", target, err)
		}
		log.Printf("unmounted %s", target)
	}
	if err := os.Remove(target); err != nil && !os.IsNotExist(err) {
		return nil, status.Errorf(codes.Internal, "Could not remove %q: %v", target, err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// mounted asks the kernel's list: a bind mount of a folder on the same file system cannot be told by device numbers.
func (p *plugin) mounted(target string) (bool, error) {
	if _, err := os.Stat(target); os.IsNotExist(err) {
		return false, nil
	}
	mounted, err := p.mounter.IsMountPoint(target)
	if err != nil {
		return false, status.Errorf(codes.Internal, "Could not look at %q: %v", target, err)
	}
	return mounted, nil
}
