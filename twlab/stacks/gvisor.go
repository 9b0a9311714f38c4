// gVisor's netstack as the TCP stack of a node: raw Ethernet frames on one descriptor, orders on
// another.
//
//	gvisor FRAMES ORDERS MAC NEXT-MAC ADDRESS ADDRESS6 NEXT-ADDRESS NEXT-ADDRESS6
//
// FRAMES is a packet socket bound to the node's interface, ORDERS a SOCK_SEQPACKET socket: one order
// a message, and one answer to each; the orders are those of lwip.c. The kernel has no address on
// that interface, so that gVisor is the only one to answer. The library is the distribution's, as it
// is, with the defaults of the sandbox (runsc): selective acknowledgements are on.
package main

import (
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	nic     = 1
	backlog = 4096
	mtu     = 1500
)

// device is the running stack, and what it counts.
type device struct {
	*stack.Stack
	sync.Mutex
	current            tcpip.Endpoint // what is read from, or was connected
	accepted, received uint64
	byValue            map[byte]uint64
	outcome            string
	port               uint16
}

// refusals name an error of the stack's as the kernel would.
var refusals = map[string]string{
	(&tcpip.ErrConnectionReset{}).String():   "ECONNRESET",
	(&tcpip.ErrConnectionRefused{}).String(): "ECONNREFUSED",
	(&tcpip.ErrTimeout{}).String():           "ETIMEDOUT",
	(&tcpip.ErrNoPortAvailable{}).String():   "EADDRNOTAVAIL",
}

func must(err any) {
	switch fault := err.(type) {
	case nil:
	case tcpip.Error:
		fmt.Fprintln(os.Stderr, "gvisor:", fault.String())
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "gvisor:", fault)
		os.Exit(1)
	}
}

// boot makes the stack, with one interface, its two addresses, and one neighbour for all packets.
func boot(frames int, words []string) *device {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	mac, err := net.ParseMAC(words[0])
	must(err)
	next, err := net.ParseMAC(words[1])
	must(err)
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{frames}, MTU: mtu, EthernetHeader: true, Address: tcpip.LinkAddress(mac),
	})
	must(err)
	if fault := s.CreateNIC(nic, link); fault != nil {
		must(fault)
	}
	sack := tcpip.TCPSACKEnabled(true)
	if fault := s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); fault != nil {
		must(fault)
	}
	var routes []tcpip.Route
	for at, length := range []int{net.IPv4len, net.IPv6len} {
		own, gateway := address(words[2+at]), address(words[4+at])
		protocol, prefix := header.IPv4ProtocolNumber, 24
		if length == net.IPv6len {
			protocol, prefix = header.IPv6ProtocolNumber, 64
		}
		if fault := s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          protocol,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: own, PrefixLen: prefix},
		}, stack.AddressProperties{}); fault != nil {
			must(fault)
		}
		if fault := s.AddStaticNeighbor(nic, protocol, gateway, tcpip.LinkAddress(next)); fault != nil {
			must(fault)
		}
		everywhere := header.IPv4EmptySubnet
		if length == net.IPv6len {
			everywhere = header.IPv6EmptySubnet
		}
		routes = append(routes, tcpip.Route{Destination: everywhere, Gateway: gateway, NIC: nic})
	}
	s.SetRouteTable(routes)
	return &device{Stack: s, byValue: map[byte]uint64{}, outcome: "none"}
}

// address reads it out of a header: an Address is a string in gVisor of 2022, and a struct in that of 2024.
func address(text string) tcpip.Address {
	parsed := net.ParseIP(text)
	if short := parsed.To4(); short != nil {
		packet := make([]byte, header.IPv4MinimumSize)
		copy(packet[12:], short)
		return header.IPv4(packet).SourceAddress()
	}
	packet := make([]byte, header.IPv6MinimumSize)
	copy(packet[8:], parsed)
	return header.IPv6(packet).SourceAddress()
}

// listen accepts connections on port, and closes, aborts or reads each.
func (d *device) listen(port uint16, ending string) string {
	for _, protocol := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
		var queue waiter.Queue
		listener, fault := d.NewEndpoint(tcp.ProtocolNumber, protocol, &queue)
		if fault != nil {
			return "cannot listen"
		}
		listener.SocketOptions().SetV6Only(true)
		if fault := listener.Bind(tcpip.FullAddress{Port: port}); fault != nil {
			return "cannot bind"
		}
		entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
		queue.EventRegister(&entry)
		if fault := listener.Listen(backlog); fault != nil {
			return "cannot listen"
		}
		go d.accept(listener, ready, ending)
	}
	return "ok"
}

func (d *device) accept(listener tcpip.Endpoint, ready chan struct{}, ending string) {
	for {
		connection, queue, fault := listener.Accept(nil)
		if _, none := fault.(*tcpip.ErrWouldBlock); none {
			<-ready
			continue
		}
		if fault != nil {
			return
		}
		d.Lock()
		d.accepted++
		if ending == "read" {
			d.current = connection
		}
		d.Unlock()
		switch ending {
		case "close":
			connection.Close()
		case "abort":
			connection.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
			connection.Close()
		default:
			go d.read(connection, queue)
		}
	}
}

// counter is where the bytes of a connection go.
type counter struct{ *device }

func (c counter) Write(bytes []byte) (int, error) {
	c.Lock()
	defer c.Unlock()
	c.received += uint64(len(bytes))
	for _, one := range bytes {
		c.byValue[one]++
	}
	return len(bytes), nil
}

// read counts what comes, until the peer closes or an error ends it.
func (d *device) read(connection tcpip.Endpoint, queue *waiter.Queue) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	for {
		_, fault := connection.Read(counter{d}, tcpip.ReadOptions{})
		if _, none := fault.(*tcpip.ErrWouldBlock); none {
			<-ready
			continue
		}
		if fault == nil {
			continue
		}
		if _, end := fault.(*tcpip.ErrClosedForReceive); !end {
			d.conclude(fault)
		}
		connection.Close()
		return
	}
}

// conclude notes how the last connect ended, or its connection.
func (d *device) conclude(fault tcpip.Error) {
	d.Lock()
	defer d.Unlock()
	if fault == nil {
		d.outcome = "connected"
	} else if name, known := refusals[fault.String()]; known {
		d.outcome = name
	} else {
		d.outcome = strings.ReplaceAll(fault.String(), " ", "-")
	}
}

// connect begins to connect; the outcome is told by status.
func (d *device) connect(to tcpip.Address, port uint16) string {
	protocol := header.IPv4ProtocolNumber
	if strings.Contains(to.String(), ":") {
		protocol = header.IPv6ProtocolNumber
	}
	var queue waiter.Queue
	made, fault := d.NewEndpoint(tcp.ProtocolNumber, protocol, &queue)
	if fault != nil {
		return "cannot connect"
	}
	entry, done := waiter.NewChannelEntry(waiter.WritableEvents)
	queue.EventRegister(&entry)
	d.Lock()
	d.current, d.outcome = made, "pending"
	d.Unlock()
	fault = made.Connect(tcpip.FullAddress{NIC: nic, Addr: to, Port: port})
	if local, bad := made.GetLocalAddress(); bad == nil {
		d.port = local.Port
	}
	if _, started := fault.(*tcpip.ErrConnectStarted); !started {
		d.conclude(fault)
		return "ok"
	}
	go func() {
		<-done
		queue.EventUnregister(&entry)
		fault := made.LastError()
		d.conclude(fault)
		if fault == nil {
			d.read(made, &queue)
		}
	}()
	return "ok"
}

// status tells what there is, as NAME=VALUE words.
func (d *device) status() string {
	resting, active := map[any]bool{}, map[any]bool{}
	for _, one := range append(d.RegisteredEndpoints(), d.CleanupEndpoints()...) {
		endpoint, ok := one.(tcpip.Endpoint)
		if !ok {
			continue
		}
		switch state := tcp.EndpointState(endpoint.State()); state {
		case tcp.StateTimeWait:
			resting[one] = true
		case tcp.StateListen, tcp.StateInitial, tcp.StateBound, tcp.StateClose, tcp.StateError:
		default:
			active[one] = true
		}
	}
	d.Lock()
	defer d.Unlock()
	words := []string{
		fmt.Sprintf("time_wait=%d active=%d accepted=%d received=%d outcome=%s port=%d",
			len(resting), len(active), d.accepted, d.received, d.outcome, d.port),
	}
	for value, count := range d.byValue {
		words = append(words, fmt.Sprintf("byte_%d=%d", value, count))
	}
	sort.Strings(words[1:])
	return strings.Join(words, " ")
}

func (d *device) obey(order string) string {
	words := strings.Fields(order)
	if len(words) == 1 && words[0] == "status" {
		return d.status()
	}
	if len(words) == 1 && words[0] == "close" && d.current != nil {
		d.current.Close()
		d.current = nil
		return "ok"
	}
	if len(words) != 3 {
		return "unknown order"
	}
	if port, err := strconv.ParseUint(words[1], 10, 16); err == nil && words[0] == "listen" {
		return d.listen(uint16(port), words[2])
	}
	if port, err := strconv.ParseUint(words[2], 10, 16); err == nil && words[0] == "connect" {
		return d.connect(address(words[1]), uint16(port))
	}
	return "unknown order"
}

func main() {
	if len(os.Args) != 9 {
		fmt.Fprintln(os.Stderr, "usage: gvisor FRAMES ORDERS MAC NEXT-MAC ADDRESS ADDRESS6 NEXT-ADDRESS NEXT-ADDRESS6")
		os.Exit(2)
	}
	frames, err := strconv.Atoi(os.Args[1])
	must(err)
	orders, err := strconv.Atoi(os.Args[2])
	must(err)
	d := boot(frames, os.Args[3:])
	order := make([]byte, 256)
	for {
		length, err := unix.Read(orders, order)
		if err == unix.EINTR {
			continue
		}
		if err != nil || length == 0 {
			return
		}
		_, err = unix.Write(orders, []byte(d.obey(string(order[:length]))))
		must(err)
	}
}
