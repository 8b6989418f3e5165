/* c_threads: a thread per client, blocking calls: the floor under v1_threads.

   What v1_threads would cost without Python: system calls, and switches from thread to thread.
   It answers what is measured and no more. Names and characters are not checked, nothing is refused
   in words, nothing times out. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME "c_threads"
#define GREETING "* " NAME ": enter your name\n"
#define MAX_LINE 1024 /* bytes in a line, its ending not counted; a longer one may end its client */
#define MAX_NAME 20
#define READ_SIZE (16 * 1024) /* bytes of input that one turn of a client takes in at most */
/* Room for the answers to one read. The longest for its size is that to a text of one letter: its
   2 bytes come back behind a name and ": ", as 24 bytes. */
#define ANSWERS_SIZE ((MAX_LINE + 1 + READ_SIZE) / 2 * (MAX_NAME + 4))
#define STACK_SIZE (64 * 1024) /* the usual 8 MiB are only reserved, but 10,000 times */

/* One connection. Its buffers would be too large for the stack of its thread. malloc()
   only reserves them: a page costs memory once it is written to, so an idle client has few. */
struct client {
    int fd;
    char name[MAX_NAME + 1]; /* empty until the client has given one */
    int leaving;             /* it has said /quit, or too much: not heard any more */
    char rest[MAX_LINE + 1]; /* the beginning of a line whose end has not come yet */
    size_t rest_length;
    char input[MAX_LINE + 1 + READ_SIZE];
    char answers[ANSWERS_SIZE];
};

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

/* Waits until the kernel has taken all. Returns whether it has: the client may have gone. */
static int send_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, data, length, 0);

        if (sent < 0)
            return 0;
        data += sent;
        length -= sent;
    }
    return 1;
}

/* Serves one client from its greeting to its end: this is what its thread does. */
static void *serve_client(void *argument)
{
    struct client *client = argument;
    int connected = send_all(client->fd, GREETING, strlen(GREETING));

    while (connected && !client->leaving) {
        memcpy(client->input, client->rest, client->rest_length);
        ssize_t received = recv(client->fd, client->input + client->rest_length, READ_SIZE, 0);
        if (received <= 0) /* the end of its input, or a reset: the end of this client only */
            break;
        size_t length = client->rest_length + received;
        length = answer_lines(client, client->input, length, client->answers);
        connected = send_all(client->fd, client->answers, length);
    }
    /* To close while input is unread would be a reset, and the client could lose our last words.
       So end our side first, and wait for the end of its side. */
    shutdown(client->fd, SHUT_WR);
    while (recv(client->fd, client->input, READ_SIZE, 0) > 0)
        ;
    close(client->fd);
    free(client);
    return NULL;
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
    pthread_t thread;
    pthread_attr_t attributes;
    int fd, listener = open_listener(argc > 1 ? atoi(argv[1]) : 0);

    signal(SIGTERM, on_sigterm);
    signal(SIGPIPE, SIG_IGN); /* sending to a client that has gone is an error of that send() */
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (;;) {
        while ((fd = accept(listener, NULL, NULL)) < 0)
            usleep(10 * 1000); /* out of descriptors, mostly: somebody may leave meanwhile */
        struct client *client = malloc(sizeof *client);
        if (client) {
            client->fd = fd;
            client->name[0] = client->leaving = client->rest_length = 0;
        }
        if (!client || pthread_create(&thread, &attributes, serve_client, client) != 0) {
            send(fd, "! server full\n", 14, 0);
            close(fd);
            free(client);
        }
    }
}
