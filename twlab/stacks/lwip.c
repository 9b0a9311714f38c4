/* lwIP as the TCP stack of a node: raw Ethernet frames on one descriptor, orders on another.
 *
 *   lwip FRAMES ORDERS MAC NEXT-MAC ADDRESS ADDRESS6 POOL
 *
 * FRAMES is a packet socket bound to the node's interface, ORDERS a SOCK_SEQPACKET socket: one order
 * a message, and one answer to each. The kernel has no address on that interface, so that lwIP is
 * the only one to answer. All packets go to the neighbour with the address NEXT-MAC, as on the lab's
 * other nodes, whose neighbours are fixed. The library is the distribution's, as it is: it takes
 * control blocks from the heap. POOL other than 0 is how many there are for TCP connections.
 *
 *   listen PORT close|abort|read   accept on PORT; close or abort as soon as accepted, or read
 *   connect ADDRESS PORT           begin to connect; `status` tells the outcome
 *   close                          close the connection that was read from or connected
 *   status                         what there is, as NAME=VALUE words
 */

#define _GNU_SOURCE /* RTLD_NEXT */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lwip/etharp.h"
#include "lwip/memp.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
#include "lwip/tcpip.h"
#include "netif/ethernet.h"

enum { FRAME = 65536, ORDER = 256, ANSWER = 1024, BYTES = 256 };
enum ending { CLOSE, ABORT, READ };

static int frames, orders;
static struct netif interface;
static struct eth_addr mac, next_mac;

static struct tcp_pcb *current; /* the connection that is read from, or that was connected */
static enum ending ending;
static unsigned long accepted, received, by_byte[BYTES];
static const char *outcome = "none";
static u32_t first_sequence_number;
static u16_t local_port;

static unsigned pool, taken; /* control blocks for TCP connections: how many there are, 0 for no end; in use */

/* In place of the library's own: it finds this one first. For a TCP_PCB lwIP's lock is held. */
void *memp_malloc(memp_t kind) {
    static void *(*own)(memp_t);
    void *block;
    if (!own)
        own = (void *(*)(memp_t))dlsym(RTLD_NEXT, "memp_malloc");
    if (kind == MEMP_TCP_PCB && pool && taken >= pool)
        return NULL;
    block = own(kind);
    taken += kind == MEMP_TCP_PCB && block;
    return block;
}

void memp_free(memp_t kind, void *block) {
    static void (*own)(memp_t, void *);
    if (!own)
        own = (void (*)(memp_t, void *))dlsym(RTLD_NEXT, "memp_free");
    taken -= kind == MEMP_TCP_PCB && block;
    own(kind, block);
}

static err_t send_frame(struct netif *to, struct pbuf *packet) {
    static unsigned char frame[FRAME];
    u16_t length = pbuf_copy_partial(packet, frame, packet->tot_len, 0);
    (void)to;
    return send(frames, frame, length, 0) == length ? ERR_OK : ERR_IF;
}

static err_t send_ip4(struct netif *by, struct pbuf *packet, const ip4_addr_t *to) {
    (void)to;
    return ethernet_output(by, packet, &mac, &next_mac, ETHTYPE_IP);
}

static err_t send_ip6(struct netif *by, struct pbuf *packet, const ip6_addr_t *to) {
    (void)to;
    return ethernet_output(by, packet, &mac, &next_mac, ETHTYPE_IPV6);
}

static err_t set_up(struct netif *made) {
    made->name[0] = 'v';
    made->name[1] = 'e';
    made->output = send_ip4;
    made->output_ip6 = send_ip6;
    made->linkoutput = send_frame;
    made->mtu = 1500;
    made->hwaddr_len = sizeof mac;
    memcpy(made->hwaddr, &mac, sizeof mac);
    made->flags = NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP; /* without ETHARP it drops IPv4 */
    return ERR_OK;
}

/* Runs as a thread: hand every frame that arrives to lwIP's own thread. */
static void *receive_frames(void *unused) {
    static unsigned char frame[FRAME];
    (void)unused;
    for (;;) {
        ssize_t length = recv(frames, frame, sizeof frame, 0);
        if (length <= 0)
            continue;
        /* Of the heap, in one piece: what Debian's library calls its pool is too small for a frame. */
        struct pbuf *packet = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM);
        if (!packet)
            continue;
        pbuf_take(packet, frame, (u16_t)length);
        if (interface.input(packet, &interface) != ERR_OK)
            pbuf_free(packet);
    }
    return NULL;
}

static err_t on_data(void *unused, struct tcp_pcb *connection, struct pbuf *packet, err_t error) {
    (void)unused;
    (void)error;
    if (!packet) { /* the peer has closed */
        if (connection == current)
            current = NULL;
        return tcp_close(connection);
    }
    for (struct pbuf *part = packet; part; part = part->next)
        for (u16_t at = 0; at < part->len; at++)
            by_byte[((unsigned char *)part->payload)[at]]++;
    received += packet->tot_len;
    tcp_recved(connection, packet->tot_len);
    pbuf_free(packet);
    return ERR_OK;
}

static void on_error(void *unused, err_t error) {
    (void)unused;
    outcome = error == ERR_RST ? "ECONNRESET" : error == ERR_ABRT ? "ETIMEDOUT" : "ECONNABORTED";
    current = NULL; /* lwIP has freed it */
}

static err_t on_accept(void *unused, struct tcp_pcb *connection, err_t error) {
    (void)unused;
    if (error != ERR_OK || !connection)
        return ERR_VAL;
    accepted++;
    if (ending == ABORT) {
        tcp_abort(connection);
        return ERR_ABRT;
    }
    if (ending == CLOSE)
        return tcp_close(connection);
    current = connection;
    tcp_recv(connection, on_data);
    tcp_err(connection, on_error);
    return ERR_OK;
}

static err_t on_connected(void *unused, struct tcp_pcb *connection, err_t error) {
    (void)unused;
    (void)connection;
    outcome = error == ERR_OK ? "connected" : "failed";
    return ERR_OK;
}

static const char *listen_on(u16_t port, const char *how) {
    struct tcp_pcb *made = tcp_new_ip_type(IPADDR_TYPE_ANY), *listener;
    ending = !strcmp(how, "close") ? CLOSE : !strcmp(how, "abort") ? ABORT : READ;
    if (!made || tcp_bind(made, IP_ANY_TYPE, port) != ERR_OK)
        return "cannot bind";
    listener = tcp_listen_with_backlog(made, 255);
    if (!listener)
        return "cannot listen";
    tcp_accept(listener, on_accept);
    return "ok";
}

static const char *connect_to(const char *address, u16_t port) {
    ip_addr_t to;
    if (!ipaddr_aton(address, &to) || !(current = tcp_new_ip_type(IP_GET_TYPE(&to))))
        return "cannot connect";
    outcome = "pending";
    tcp_recv(current, on_data);
    tcp_err(current, on_error);
    if (tcp_connect(current, &to, port, on_connected) != ERR_OK)
        return "cannot connect";
    first_sequence_number = current->lastack; /* what the SYN bears, see tcp_connect */
    local_port = current->local_port;
    return "ok";
}

static void tell_status(char *answer) {
    unsigned resting = 0, active = 0;
    int length;
    for (struct tcp_pcb *one = tcp_tw_pcbs; one; one = one->next)
        resting++;
    for (struct tcp_pcb *one = tcp_active_pcbs; one; one = one->next)
        active++;
    length = snprintf(answer, ANSWER, "time_wait=%u active=%u accepted=%lu received=%lu outcome=%s port=%u first=%lu",
                      resting, active, accepted, received, outcome, local_port, (unsigned long)first_sequence_number);
    for (int byte = 0; byte < BYTES && length < ANSWER - 32; byte++)
        if (by_byte[byte])
            length += snprintf(answer + length, (size_t)(ANSWER - length), " byte_%d=%lu", byte, by_byte[byte]);
}

static void obey(const char *order, char *answer) {
    char address[64], how[16];
    unsigned port;
    const char *said = "unknown order";
    LOCK_TCPIP_CORE();
    if (sscanf(order, "listen %u %15s", &port, how) == 2)
        said = listen_on((u16_t)port, how);
    else if (sscanf(order, "connect %63s %u", address, &port) == 2)
        said = connect_to(address, (u16_t)port);
    else if (!strcmp(order, "close"))
        said = current && tcp_close(current) == ERR_OK ? "ok" : "cannot close", current = NULL;
    else if (!strcmp(order, "status"))
        said = NULL;
    if (said)
        snprintf(answer, ANSWER, "%s", said);
    else
        tell_status(answer);
    UNLOCK_TCPIP_CORE();
}

static int read_mac(const char *text, struct eth_addr *into) {
    unsigned char *to = into->addr;
    return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5) == 6;
}

int main(int count, char **words) {
    ip4_addr_t address, netmask;
    ip6_addr_t address6;
    pthread_t receiver;
    char order[ORDER], answer[ANSWER];
    ssize_t length;
    if (count != 8 || !read_mac(words[3], &mac) || !read_mac(words[4], &next_mac) ||
        !ip4addr_aton(words[5], &address) || !ip6addr_aton(words[6], &address6)) {
        fprintf(stderr, "usage: lwip FRAMES ORDERS MAC NEXT-MAC ADDRESS ADDRESS6 POOL\n");
        return 2;
    }
    frames = atoi(words[1]);
    orders = atoi(words[2]);
    pool = (unsigned)atoi(words[7]);
    IP4_ADDR(&netmask, 255, 255, 255, 0);
    tcpip_init(NULL, NULL);
    LOCK_TCPIP_CORE();
    netif_add(&interface, &address, &netmask, IP4_ADDR_ANY4, NULL, set_up, tcpip_input);
    netif_set_default(&interface);
    netif_set_up(&interface);
    netif_ip6_addr_set(&interface, 1, &address6);
    netif_ip6_addr_set_state(&interface, 1, IP6_ADDR_PREFERRED);
    UNLOCK_TCPIP_CORE();
    if (pthread_create(&receiver, NULL, receive_frames, NULL) != 0)
        return 1;
    while ((length = recv(orders, order, sizeof order - 1, 0)) > 0) {
        order[length] = 0;
        obey(order, answer);
        if (send(orders, answer, strlen(answer), 0) < 0)
            return 1;
    }
    return 0;
}
