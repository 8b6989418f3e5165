/* c_epoll: one thread, epoll, non-blocking sockets: the floor under v3_broadcast and v4_asyncio.

   What an event loop would cost without Python: system calls. Unlike select() the kernel remembers
   whom to watch, so that idle clients cost nothing but memory. There is no epoll but on Linux.
   It answers what is measured and no more. Names and characters are not checked, nothing is refused
   in words, nothing times out. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "c_epoll"
#define GREETING "* " NAME ": enter your name\n"
#define MAX_LINE 1024 /* bytes in a line, its ending not counted; a longer one may end its client */
#define MAX_NAME 20
#define READ_SIZE (16 * 1024) /* bytes of input that one turn of a client takes in at most */
/* Room for the answers to one read. The longest for its size is that to a text of one letter: its
   2 bytes come back behind a name and ": ", as 24 bytes. */
#define ANSWERS_SIZE ((MAX_LINE + 1 + READ_SIZE) / 2 * (MAX_NAME + 4))
#define MAX_EVENTS 256 /* that one call of epoll_wait() reports at most */

/* One connection: what the loop has to remember of it from turn to turn. */
struct client {
    int fd;
    char name[MAX_NAME + 1]; /* empty until the client has given one */
    int leaving;             /* it has said /quit, or too much: not heard any more */
    char rest[MAX_LINE + 1]; /* the beginning of a line whose end has not come yet */
    size_t rest_length;
    char *outbox;            /* answers that the kernel has not taken yet: seldom any */
    size_t outbox_length;
};

static int poller; /* the kernel's list of descriptors to watch, each with its client */
static char input[MAX_LINE + 1 + READ_SIZE], answers[ANSWERS_SIZE];

/* Writes the answer to one line, and returns its length. */
static size_t answer_line(struct client *client, const char *line, int length, char *answer)
{
    if (length > 0 && line[length - 1] == '\r')
        length--;
    if (length == 0)
        return 0;
    if (!client->name[0]) {
        snprintf(client->name, sizeof client->name, "%.*s", length, line);
        return sprintf(answer, "* hello %s\n", client->name);
    }
    if (length >= 6 && memcmp(line, "/ping ", 6) == 0)
        return sprintf(answer, "* pong %.*s\n", length - 6, line + 6);
    if (length == 5 && memcmp(line, "/quit", 5) == 0) {
        client->leaving = 1;
        return sprintf(answer, "* bye %s\n", client->name);
    }
    return sprintf(answer, "%s: %.*s\n", client->name, length, line);
}

/* Answers all lines whose end is in `input`, and returns the length of the answers. What follows
   the last LF is kept, and put before the next read. */
static size_t answer_lines(struct client *client, const char *input, size_t length, char *answers)
{
    const char *line = input, *end = input + length, *line_end;
    char *answer = answers;

    while (!client->leaving && (line_end = memchr(line, '\n', end - line))) {
        answer += answer_line(client, line, line_end - line, answer);
        line = line_end + 1;
    }
    if (end - line > MAX_LINE + 1) /* no line any more, even if its last byte is a CR */
        client->leaving = 1;
    client->rest_length = client->leaving ? 0 : end - line;
    memcpy(client->rest, line, client->rest_length);
    return answer - answers;
}

/* Watches for what is wanted of a client now: its input, or that it has room for our output. */
static void watch(struct client *client, int wanted)
{
    struct epoll_event event = {.events = wanted, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void drop(struct client *client)
{
    close(client->fd); /* this takes it off the kernel's list, too */
    free(client->outbox);
    free(client);
}

/* Sends what the kernel takes now. The rest waits in the outbox, and meanwhile we read nothing from
   this client, so that no more can come to it. */
static void send_answers(struct client *client, const char *data, size_t length)
{
    ssize_t sent = send(client->fd, data, length, 0);

    if (sent < 0 && errno != EAGAIN) {
        drop(client); /* a reset: the end of this client only */
        return;
    }
    size_t unsent = sent < 0 ? length : length - sent;
    if (unsent > 0 && !client->outbox) {
        client->outbox = malloc(ANSWERS_SIZE);
        watch(client, EPOLLOUT);
    }
    if (unsent > 0) {
        memmove(client->outbox, data + length - unsent, unsent);
    } else if (client->outbox) {
        free(client->outbox);
        client->outbox = NULL;
        watch(client, EPOLLIN);
    }
    client->outbox_length = unsent;
    /* To close while input is unread would be a reset, and the client could lose our last words.
       So end our side first, and wait for the end of its side. */
    if (unsent == 0 && client->leaving)
        shutdown(client->fd, SHUT_WR);
}

/* One turn of a client: all that has come, READ_SIZE at most, is answered with one send(). */
static void on_readable(struct client *client)
{
    memcpy(input, client->rest, client->rest_length);
    ssize_t received = recv(client->fd, input + client->rest_length, READ_SIZE, 0);

    if (received == 0 || (received < 0 && errno != EAGAIN)) {
        drop(client); /* the end of its input, or a reset: the end of this client only */
    } else if (received > 0 && !client->leaving) {
        size_t length = client->rest_length + received;
        length = answer_lines(client, input, length, answers);
        if (length > 0 || client->leaving)
            send_answers(client, answers, length);
    }
}

/* Accepts all clients that wait. Where descriptors are lacking it fails, and is tried again at
   once. */
static void accept_clients(int listener)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (!client) {
            close(fd);
            continue;
        }
        fcntl(fd, F_SETFL, O_NONBLOCK);
        client->fd = fd;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        send_answers(client, GREETING, strlen(GREETING));
    }
}

/* No good-bye: by then the measurement is over. */
static void on_sigterm(int number)
{
    (void)number;
    _exit(0);
}

/* Listens on 127.0.0.1, and says where on standard output; port 0 takes a free one. */
static int open_listener(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* Accepted connections inherit it: no answer waits until the one before has been received. */
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, SOMAXCONN) < 0) {
        perror(NAME);
        exit(1);
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf(NAME " listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS], listening = {.events = EPOLLIN, .data.ptr = NULL};
    int listener = open_listener(argc > 1 ? atoi(argv[1]) : 0);

    signal(SIGTERM, on_sigterm);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has gone is an error of that send() */
    fcntl(listener, F_SETFL, O_NONBLOCK);
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &listening);
    for (;;) {
        int ready = epoll_wait(poller, events, MAX_EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) /* the listener has none */
                accept_clients(listener);
            else if (client->outbox)
                send_answers(client, client->outbox, client->outbox_length);
            else
                on_readable(client);
        }
    }
}
