#!/usr/bin/env perl
# A chat server that was written from PROTOCOL.md alone, in another language than the four.
#
#     perl chat_server.pl [--profile chat|echo] [--port N] ... [--bug NAME]
#
# It is here to test the suite: it has to pass, and with --bug NAME, which plants one classic
# mistake, the suite has to name the rule that the mistake breaks. Each mistake is a line or three,
# at the place where one makes it: look for %bug. Words like (F5) are the rules of PROTOCOL.md.
#
# One process, one select() loop, no modules but those of Debian's perl-base.
#
#     wait for events -> send -> read -> accept -> give each client a turn -> work -> look at clocks

use v5.16;
use warnings;

use Errno qw(EAGAIN ECONNABORTED EINTR EWOULDBLOCK);
use Getopt::Long qw(GetOptionsFromArray);
use IO::Handle;
use POSIX ();
use Socket qw(:DEFAULT :addrinfo IPPROTO_TCP TCP_NODELAY SO_REUSEADDR SO_SNDBUF);

use constant {
    NAME            => 'other_language',    # the folder's name (H1)
    LINE_LIMIT      => 1024,                # bytes in a line, without its ending (F2)
    READ_SIZE       => 16 * 1024,           # bytes of input in one turn (F7)
    HIGH_WATER      => 256 * 1024,          # above this an outbox is too full (L3),
    LOW_WATER       => 128 * 1024,          # until it has come down to this
    LINGER_SECONDS  => 3,                   # how long we listen on after our last word (C4)
    STOP_SECONDS    => 1.5,                 # how long a stop may take in all (L4)
    SLICE_SECONDS   => 0.02,                # how long we compute before we look what has come
    LONGEST_WAIT    => 0.5,                 # see wait_for_events()
    FD_SETSIZE      => 1024,                # select() can watch no descriptor from here on (L2)
    SEND_BUFFER     => 128 * 1024,          # see new_client()
    TICKS           => POSIX::sysconf(POSIX::_SC_CLK_TCK()),
    CLOCKS          => POSIX::CLOCKS_PER_SEC(),
};

my %BUGS = (
    'names-with-case'      => 'Alice and alice are two names',
    'name-stays-taken'     => 'the name of one who has gone is not given back',
    'one-read-is-one-line' => 'what one read brings is taken for one line',
    'split-utf8'           => 'each read is decoded alone, also when it ends inside a character',
    'short-send'           => 'what the kernel does not take at once is thrown away',
    'rest-is-a-line'       => 'what follows the last LF is a line when input ends',
    'endless-line'         => 'the bytes of a line that is too long are kept until its LF',
    'work-is-skipped'      => '/work is answered and not done',
    'echo-to-sender'       => 'who says something in a room gets it back',
    'left-twice'           => 'who quits has left, and has left again when it is closed',
    'dies-on-reset'        => 'an error on one connection ends the server',
    'no-stall-limit'       => 'one who does not read is waited for, for ever',
    'no-turns'             => "a client's turn lasts for as long as it has input",
    'no-idle-timeout'      => 'the silent may stay',
    'places-leak'          => 'the place of one who is reset is not given back',
    'half-close-closes'    => 'the end of input ends all, answers that are due included',
    'quit-resets'          => 'a connection is closed over input that nobody has read',
    'spin-at-end'          => 'an end of input is watched for, and found, again and again',
    'no-sigterm'           => 'SIGTERM ends the server as it ends any program',
);

# ---- What the server knows ----

my %option = (
    profile         => 'chat',
    host            => '127.0.0.1',
    port            => 8005,
    'idle-timeout'  => 300,
    'stall-timeout' => 1,
    'max-clients'   => 1000,
    verbose         => 0,
);
my %bug;              # the mistake that is planted: NAME => 1
my $in_chat;          # whether the profile is chat
my $listener;         # the socket that accepts
my %clients;          # all connections: descriptor => client, see new_client()
my $places = 0;       # how many of --max-clients are taken
my %member;           # those who are in: folded name => client
my %too_full;         # those whose outbox is too full (L3): descriptor => client
my @waiting;          # clients with lines to process
my $turns = 0;        # how many turns there have been
my @at_work;          # clients whose /work is not done; the first one's is being computed
my $want_read  = '';  # for select(): bit N is set when descriptor N is to be watched
my $want_write = '';
my $accept_at;        # out of descriptors: when to try again
my $stopping = 0;     # a signal has come
my $linger   = LINGER_SECONDS;
my $now      = seconds();

# ---- Small tools ----

# Seconds since some moment, by a clock that nobody sets. In steps of 10 ms.
sub seconds {
    return (POSIX::times())[0] / TICKS;
}

# CPU time of this process, in seconds.
sub cpu_seconds {
    return POSIX::clock() / CLOCKS;
}

# One line for the log. One that cannot be written is lost, which is no reason to end.
sub note {
    my ($text) = @_;
    utf8::encode($text);
    syswrite STDERR, "$text\n";
    return;
}

# What an operator did wrong, in one line.
sub refuse {
    my ($text) = @_;
    note("chat_server.pl: $text");
    exit 2;
}

# Text as names are compared (H2).
sub folded {
    my ($name) = @_;
    return $name if $bug{'names-with-case'};
    return fc $name;
}

# The text that bytes stand for, or undef where they are not valid UTF-8. Perl's own notion of it
# is wider than the standard's: no surrogates, and nothing beyond U+10FFFF.
sub decoded {
    my ($text) = @_;
    return undef if !utf8::decode($text);
    return undef if $text =~ /[^\x{0}-\x{D7FF}\x{E000}-\x{10FFFF}]/;
    return $text;
}

# ---- Clients: from accept() to close() ----

# All connections. A list of its own, for some may be closed while one goes through it.
sub everybody {
    my @all = values %clients;
    return @all;
}

# A record for a new connection. One that is refused (L2) takes no place.
sub new_client {
    my ($socket, $takes_place) = @_;
    $socket->blocking(0);
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

    # What the kernel takes for one who does not read is bounded, too. And select() calls a socket
    # writable when a third of that buffer is free: if it is large, a slow reader seems not to read
    # for a second, and would be dropped (L3).
    setsockopt $socket, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER;
    my $client = {
        socket      => $socket,
        fd          => fileno $socket,
        takes_place => $takes_place,
        name        => undef,    # once it is in (H3)
        inbox       => '',       # bytes that have been read and not yet processed
        skipping    => 0,        # we are inside a line that is too long (F2)
        outbox      => '',       # bytes that have not yet been sent
        ended       => 0,        # its input has ended (L5)
        leaving     => 0,        # nothing more is processed; it is closed when all is sent
        closed      => 0,
        queued      => 0,        # it is in @waiting
        last_turn   => $turns,   # the number of its last turn, or of the last one before it came
        work        => undef,    # [MS, CPU seconds that are left] of its /work
        last_line   => $now,     # when its last line ended (L1)
        last_taken  => $now,     # when it last took some of its output
        full_since  => undef,    # when its outbox became too full
        last_word   => undef,    # when the last of its output was sent, in leaving
    };
    $clients{ $client->{fd} } = $client;
    $places++ if $takes_place;
    watch_input($client);
    return $client;
}

sub accept_clients {
    for (1 .. 100) {
        if (!accept my $socket, $listener) {
            return if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR || $! == ECONNABORTED;

            # Out of descriptors, or of memory. The listener stays readable, so it must not be
            # watched until there is hope: a close, or some time (L2).
            note("no more connections for now: $!") if !defined $accept_at;
            vec($want_read, fileno $listener, 1) = 0;
            $accept_at = $now + LONGEST_WAIT;
            return;
        }
        elsif (fileno $socket >= FD_SETSIZE) {
            $socket->blocking(0);
            syswrite $socket, "! server full\n";
            shutdown $socket, 1;

            # Unread input would turn the close into a reset, which may destroy what we said.
            1 while sysread($socket, my $ignored, READ_SIZE);
        }
        elsif ($places >= $option{'max-clients'}) {
            my $client = new_client($socket, 0);
            send_line($client, '! server full');
            leave($client);
        }
        else {
            my $client = new_client($socket, 1);
            send_line($client, '* ' . NAME . ': enter your name');
            $accept_at = undef;
        }
    }
    return;
}

sub accept_again {
    vec($want_read, fileno $listener, 1) = 1 if !$stopping;
    return;
}

# Watch a client's input, unless there is nothing to come, or no room for it.
sub watch_input {
    my ($client) = @_;
    my $useful = !$client->{ended} && ($client->{leaving} || room_for_input($client) > 0);
    $useful = 1 if $bug{'spin-at-end'} && $client->{ended};
    vec($want_read, $client->{fd}, 1) = $useful ? 1 : 0;
    return;
}

# A client goes, whyever: its name is free, the others hear of it, each exactly once (H5, D3).
sub take_out {
    my ($client) = @_;
    my $name = $client->{name};
    return if !defined $name;
    $client->{name} = undef unless $bug{'left-twice'} && !$client->{closed};
    delete $member{ folded($name) } unless $bug{'name-stays-taken'};
    note("$name left");
    if ($in_chat) {
        send_line($_, "* $name left") for values %member;
    }
    return;
}

# Process nothing more of a client, send what there is for it, then close.
sub leave {
    my ($client) = @_;
    return if $client->{leaving};
    $client->{leaving}    = 1;
    $client->{inbox}      = '';
    $client->{last_taken} = $now;
    no_longer_full($client);
    stop_work($client);
    take_out($client);
    watch_input($client);
    after_last_word($client) if $client->{outbox} eq '';
    return;
}

# All is sent to one who is leaving. To close while it still sends would be answered with a reset,
# which may destroy our last words on their way: so we end our direction, and wait for its end.
sub after_last_word {
    my ($client) = @_;
    return close_client($client) if $client->{ended} || $bug{'quit-resets'};
    shutdown $client->{socket}, 1;
    $client->{last_word} = $now;
    return;
}

sub close_client {
    my ($client, $error) = @_;
    return if $client->{closed};
    $client->{closed} = 1;
    stop_work($client);
    delete $clients{ $client->{fd} };
    no_longer_full($client);
    vec($want_read,  $client->{fd}, 1) = 0;
    vec($want_write, $client->{fd}, 1) = 0;
    close $client->{socket};
    $places-- if $client->{takes_place} && !($error && $bug{'places-leak'});
    take_out($client);
    accept_again();
    return;
}

# ---- Output ----

# Put one line into a client's outbox.
sub send_line {
    my ($client, $line) = @_;
    utf8::encode($line);
    put($client, "$line\n");
    return;
}

sub put {
    my ($client, $bytes) = @_;
    return if $client->{leaving} || $client->{closed};
    $client->{outbox} .= $bytes;
    vec($want_write, $client->{fd}, 1) = 1;
    if (length $client->{outbox} > HIGH_WATER && !$too_full{ $client->{fd} }) {
        $too_full{ $client->{fd} } = $client;
        $client->{full_since} = $client->{last_taken} = $now;
    }
    return;
}

# A client that held up others, or itself, does so no more. Nobody could be heard meanwhile, so
# nobody has been idle (L1).
sub no_longer_full {
    my ($client) = @_;
    return if !delete $too_full{ $client->{fd} };
    if ($in_chat && !%too_full) {
        $_->{last_line} = $now for values %clients;
    }
    return;
}

# Send as much as the kernel takes, which may be a part of it.
sub send_output {
    my ($client) = @_;
    my $sent = syswrite $client->{socket}, $client->{outbox};
    if (!defined $sent) {
        return if $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
        return end_by_error($client);
    }
    $client->{last_taken} = $now;
    substr($client->{outbox}, 0, $sent) = '';
    $client->{outbox} = '' if $bug{'short-send'};
    no_longer_full($client) if length $client->{outbox} <= LOW_WATER;
    if ($client->{outbox} eq '') {
        vec($want_write, $client->{fd}, 1) = 0;
        after_last_word($client) if $client->{leaving};
    }
    return;
}

# A reset, or any other error, ends that connection only (L6).
sub end_by_error {
    my ($client) = @_;
    die "error: $!\n" if $bug{'dies-on-reset'};
    close_client($client, 1);
    return;
}

# ---- Input ----

# How many bytes may wait without an ending: a line and its CR (F2).
sub longest_beginning {
    return $bug{'endless-line'} ? 1e12 : LINE_LIMIT + 1;
}

sub room_for_input {
    my ($client) = @_;
    return READ_SIZE if $bug{'endless-line'} && index($client->{inbox}, "\n") < 0;
    return READ_SIZE - length $client->{inbox};
}

# Read what has come; returns whether something has. Whether it makes lines is seen in the client's
# turn: how bytes come in pieces means nothing (F5).
sub read_input {
    my ($client) = @_;
    my $size = $client->{leaving} ? READ_SIZE : room_for_input($client);
    my $got  = sysread($client->{socket}, my $data, $size);
    if (!defined $got) {
        end_by_error($client) if $! != EAGAIN && $! != EWOULDBLOCK && $! != EINTR;
        return 0;
    }
    if ($got == 0) {
        end_input($client);
        return 0;
    }

    # What was sent after /quit is ignored (C4).
    return 0 if $client->{leaving};
    if ($bug{'split-utf8'} && !defined decoded($data)) {
        $data =~ s/[\x80-\xFF]/\xFF/g;
    }

    # The bytes of a line that is too long are thrown away as they arrive, up to its LF (F2).
    $data =~ s/\A[^\n]+// if $client->{skipping};
    $client->{inbox} .= $data;
    watch_input($client);
    queue($client) if has_line($client);
    return 1;
}

# Every complete line is still processed and answered (L5). What follows the last LF is none (F3).
sub end_input {
    my ($client) = @_;
    $client->{ended} = 1;
    watch_input($client);
    return close_client($client) if $bug{'half-close-closes'};
    if ($client->{leaving}) {
        close_client($client) if $client->{outbox} eq '';
        return;
    }
    if ($bug{'rest-is-a-line'} && $client->{inbox} =~ /[^\n]\z/) {
        $client->{inbox} .= "\n";
    }
    queue($client);
    return;
}

# Whether something is to be done in this client's turn. That a line is too long is known before
# it ends.
sub has_line {
    my ($client) = @_;
    return 1 if $bug{'one-read-is-one-line'} && $client->{inbox} ne '';
    return index($client->{inbox}, "\n") >= 0 || length $client->{inbox} > longest_beginning();
}

# Take the first line from the inbox and process it; returns whether there was one.
sub process_a_line {
    my ($client) = @_;
    return 0 if !has_line($client);
    my $end = index $client->{inbox}, "\n";
    $end = length($client->{inbox}) - 1 if $bug{'one-read-is-one-line'};
    if ($end < 0) {
        send_line($client, '! line too long (limit 1024 bytes)');
        $client->{skipping} = 1;
        $client->{inbox}    = '';
        return 1;
    }
    my $line = substr $client->{inbox}, 0, $end + 1, '';
    $line =~ s/\r?\n\z//;
    $client->{last_line} = $now;
    if ($client->{skipping}) {
        $client->{skipping} = 0;
    }
    elsif (length $line > LINE_LIMIT) {
        send_line($client, '! line too long (limit 1024 bytes)');
    }
    else {
        process_bytes($client, $line);
    }
    return 1;
}

# A line without its ending, still bytes (F4, F6).
sub process_bytes {
    my ($client, $bytes) = @_;
    my $text = decoded($bytes);
    return send_line($client, '! not valid UTF-8') if !defined $text;
    return send_line($client, '! control characters are not allowed')
        if $text =~ /[\x00-\x08\x0A-\x1F\x7F-\x9F]/;
    $text =~ s/\A\s+//;
    $text =~ s/\s+\z//;
    if (!defined $client->{name}) {
        enter($client, $text);
    }
    elsif ($text =~ m{\A/}) {
        command($client, $text);
    }
    elsif ($text ne '') {
        note("$client->{name}: $text") if $option{verbose};
        say_text($client, $text);
    }
    return;
}

# ---- Turns ----

# A client has something to process: it gets in line (F7).
sub queue {
    my ($client) = @_;
    return if $client->{queued} || $client->{leaving} || $client->{closed};
    $client->{queued} = 1;
    push @waiting, $client;
    return;
}

# Whether no line of this client may be processed, since it could add to an outbox that is too full
# (L3). In the chat profile that is everybody's line.
sub is_held {
    my ($client) = @_;
    return %too_full ? 1 : 0 if $in_chat;
    return $too_full{ $client->{fd} } ? 1 : 0;
}

# One turn for each who has lines; whose last one is the longest ago comes first. When this has
# taken a while, those who are left wait for the next round: answers must go out.
sub give_turns {
    return if $in_chat && %too_full;
    my @round = sort { $a->{last_turn} <=> $b->{last_turn} } splice @waiting;
    my $end   = cpu_seconds() + SLICE_SECONDS;
    for my $client (@round) {
        my $has_more = 1;
        if (!$stopping && !is_held($client) && cpu_seconds() <= $end) {
            $client->{last_turn} = ++$turns;
            $has_more = take_turn($client);
        }
        push @waiting, $client if $has_more;
        $client->{queued} = $has_more;
    }
    return;
}

# Process what one client has sent; returns whether there is more of it. The inbox has room for one
# turn's input, so the end of the inbox is the end of the turn.
sub take_turn {
    my ($client) = @_;
    return 0 if $client->{leaving} || $client->{closed};
    if ($client->{work}) {
        return 0 if $client->{work}[1] > 0;
        send_line($client, "* worked $client->{work}[0] ms");
        $client->{work} = undef;
        $client->{last_line} = $now;
    }
    while (!$stopping && !$client->{work} && !$client->{leaving} && !is_held($client)) {
        last if !process_a_line($client) && !($bug{'no-turns'} && read_input($client));
    }
    return 0 if $client->{leaving} || $client->{closed} || $client->{work};
    watch_input($client);
    return 1 if has_line($client);
    leave($client) if $client->{ended} && !$stopping;
    return 0;
}

# Whether a turn can be given at once.
sub somebody_can_go_on {
    return 0 if $in_chat && %too_full;
    return !!grep { !is_held($_) } @waiting;
}

# ---- Handshake, commands, delivery ----

# A first line is a name, or asks for one (H2 to H5). What Python's \w holds is letters and numbers
# of all scripts, and the underscore; Perl's holds more.
sub enter {
    my ($client, $name) = @_;
    if ($name eq '') {
        my $number = 1;
        $number++ while $member{ folded("guest$number") };
        $name = "guest$number";
    }
    return send_line($client, '! invalid name (1-20 letters, digits, _ or -)')
        if $name !~ /\A[\p{L}\p{N}_-]{1,20}\z/;
    return send_line($client, "! name $name is taken") if $member{ folded($name) };
    $client->{name} = $name;
    $member{ folded($name) } = $client;
    note("$name joined");
    send_line($client, "* hello $name");
    to_the_others($client, "* $name joined") if $in_chat;
    return;
}

sub command {
    my ($client, $text) = @_;
    my ($word, $rest) = split /\s+/, $text, 2;
    $rest //= '';
    if ($word eq '/help') {
        my $pm = $in_chat ? ' /pm NAME TEXT,' : '';
        send_line($client, "* commands: /help, /list, /ping [TEXT],$pm /quit, /work MS");
    }
    elsif ($word eq '/list') {
        my @names = map { $member{$_}{name} // '?' } sort keys %member;
        send_line($client, '* ' . @names . ' online: ' . join ', ', @names);
    }
    elsif ($word eq '/ping') {
        send_line($client, $rest eq '' ? '* pong' : "* pong $rest");
    }
    elsif ($word eq '/quit') {
        send_line($client, "* bye $client->{name}");
        leave($client);
    }
    elsif ($word eq '/work') {
        begin_work($client, $rest);
    }
    elsif ($word eq '/pm' && $in_chat) {
        private_message($client, $rest);
    }
    else {
        send_line($client, "! unknown command: $word (try /help)");
    }
    return;
}

# C7
sub private_message {
    my ($client, $rest) = @_;
    my ($name, $text) = split /\s+/, $rest, 2;
    return send_line($client, '! usage: /pm NAME TEXT') if !defined $text;
    my $recipient = $member{ folded($name) };
    return send_line($client, "! no such user: $name") if !$recipient;
    send_line($recipient, "@" . "$client->{name}: $text");
    return;
}

# D1 and D2
sub say_text {
    my ($client, $text) = @_;
    my $line = "$client->{name}: $text";
    if ($in_chat) {
        to_the_others($client, $line);
        send_line($client, $line) if $bug{'echo-to-sender'};
    }
    else {
        send_line($client, $line);
    }
    return;
}

sub to_the_others {
    my ($client, $line) = @_;
    utf8::encode($line);
    for my $other (values %member) {
        put($other, "$line\n") if $other != $client;
    }
    return;
}

# ---- /work (C6) ----

sub begin_work {
    my ($client, $rest) = @_;
    return send_line($client, '! usage: /work MS (1-1000)')
        if $rest !~ /\A[0-9]{1,4}\z/ || $rest < 1 || $rest > 1000;
    my $milliseconds = $rest + 0;
    return send_line($client, "* worked $milliseconds ms") if $bug{'work-is-skipped'};
    $client->{work} = [ $milliseconds, $milliseconds / 1000 ];
    push @at_work, $client;
    return;
}

# Compute for a moment, one client's work after the other's. Between two slices all others have
# their turns, and a stop is noticed.
sub compute_a_slice {
    return if !@at_work;
    my $client = $at_work[0];
    my $begin  = cpu_seconds();
    my $used   = 0;
    while ($used < SLICE_SECONDS && $used < $client->{work}[1]) {
        my $sum = 0;
        $sum += $_ * $_ for 1 .. 200;
        $used = cpu_seconds() - $begin;
    }
    $client->{work}[1] -= $used;
    if ($client->{work}[1] <= 0) {
        shift @at_work;
        queue($client);
    }
    return;
}

sub stop_work {
    my ($client) = @_;
    return if !$client->{work};
    @at_work = grep { $_ != $client } @at_work;
    $client->{work} = undef;
    return;
}

# ---- Clocks ----

# When something is due for a client, and what. Nothing is due: (undef, undef).
sub next_deadline {
    my ($client) = @_;
    if ($client->{leaving}) {
        return ($client->{last_word} + $linger, \&close_client) if defined $client->{last_word};
        return ($client->{last_taken} + $option{'stall-timeout'}, \&close_client);
    }
    if ($too_full{ $client->{fd} }) {
        return (undef, undef) if $bug{'no-stall-limit'};
        my $since = $in_chat ? $client->{full_since} : $client->{last_taken};
        return ($since + $option{'stall-timeout'}, \&drop);
    }

    # A client is not idle while a line of its own waits or is worked on (L1).
    return (undef, undef) if $client->{queued} || $client->{work} || $client->{ended};
    return (undef, undef) if $option{'idle-timeout'} == 0 || $bug{'no-idle-timeout'};
    return ($client->{last_line} + $option{'idle-timeout'}, \&time_out);
}

sub drop {
    my ($client) = @_;
    note(($client->{name} // 'a stranger') . ' does not read and is dropped');
    close_client($client);
    return;
}

sub time_out {
    my ($client) = @_;
    send_line($client, '! idle timeout');
    leave($client);
    return;
}

# Do what is due; returns the seconds until the next thing is.
sub look_at_clocks {
    my $wait = LONGEST_WAIT;
    if (defined $accept_at && $accept_at <= $now) {
        $accept_at = $now + LONGEST_WAIT;
        accept_again();
    }
    for my $client (everybody()) {
        my ($deadline, $action) = next_deadline($client);
        next if !defined $deadline;
        if ($deadline <= $now) {
            $action->($client);
            $wait = 0;
        }
        elsif ($deadline - $now < $wait) {
            $wait = $deadline - $now;
        }
    }
    return $wait;
}

# ---- Start, loop, stop ----

# One round of select(), and all that it finds. A signal that comes just before select() begins to
# wait does not end the wait: so no wait is long.
sub wait_for_events {
    my ($seconds) = @_;
    my ($readable, $writable) = ($want_read, $want_write);
    my $number = select $readable, $writable, undef, $seconds;
    $now = seconds();
    return if $number <= 0;
    for my $client (everybody()) {
        my $fd = $client->{fd};
        send_output($client) if vec $writable, $fd, 1;
        read_input($client) if !$client->{closed} && vec $readable, $fd, 1;
    }
    accept_clients() if $listener && vec $readable, fileno $listener, 1;
    return;
}

sub serve {
    my $wait = 0;
    while (!$stopping) {
        wait_for_events($wait);
        give_turns();
        compute_a_slice();
        $wait = look_at_clocks();
        $wait = 0 if @at_work || somebody_can_go_on();
    }
    return;
}

# L4
sub stop {
    vec($want_read, fileno $listener, 1) = 0;
    close $listener;
    $listener = undef;
    $linger   = LONGEST_WAIT;
    for my $client (everybody()) {
        send_line($client, '* server shutting down');

        # Nobody is told who else leaves.
        $client->{name} = undef;
        leave($client);
    }
    my $end = $now + STOP_SECONDS;
    while (%clients && $now < $end) {
        wait_for_events(0.05);
        look_at_clocks();
    }
    note('stopped');
    return;
}

# A socket that took the place of a closed standard stream would get what is written there.
sub fill_standard_streams {
    while (1) {
        my $fd = POSIX::open('/dev/null', POSIX::O_RDWR());
        last if !defined $fd;
        next if $fd <= 2;
        POSIX::close($fd);
        last;
    }
    return;
}

sub read_options {
    my @arguments = @_;
    my @complaints;
    local $SIG{__WARN__} = sub { push @complaints, @_ };
    Getopt::Long::Configure('no_auto_abbrev', 'no_ignore_case');
    GetOptionsFromArray(
        \@arguments, \%option, 'profile=s', 'host=s', 'port=s', 'idle-timeout=s',
        'stall-timeout=s', 'max-clients=s', 'verbose', 'bug=s',
    );
    if (@complaints) {
        chomp(my $complaint = $complaints[0]);
        refuse($complaint);
    }
    refuse("there is no argument '$arguments[0]', only options") if @arguments;
    refuse('--profile is echo or chat') if $option{profile} !~ /\A(echo|chat)\z/;
    refuse('--port is a whole number from 0 to 65535')
        if $option{port} !~ /\A[0-9]{1,5}\z/ || $option{port} > 65535;
    refuse('--max-clients is a whole number from 1')
        if $option{'max-clients'} !~ /\A0*[1-9][0-9]*\z/;
    for my $name ('idle-timeout', 'stall-timeout') {
        refuse("--$name is a number of seconds from 0")
            if $option{$name} !~ /\A([0-9]+(\.[0-9]*)?|\.[0-9]+)\z/;
    }
    if (defined $option{bug}) {
        refuse("--bug is one of: @{[sort keys %BUGS]}") if !$BUGS{ $option{bug} };
        $bug{ $option{bug} } = 1;
    }
    $in_chat = $option{profile} eq 'chat';
    return;
}

# Bind, listen, and say so on standard output.
sub open_listener {
    my ($host, $port) = @option{ 'host', 'port' };
    my $hints = { flags => AI_PASSIVE, socktype => SOCK_STREAM };
    my ($error, @found) = getaddrinfo($host, $port, $hints);
    refuse("cannot listen on host $host: $error") if $error || !@found;
    my $found = $found[0];
    socket $listener, $found->{family}, SOCK_STREAM, $found->{protocol}
        or refuse("cannot make a socket: $!");
    setsockopt $listener, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $listener, $found->{addr} or refuse("cannot listen on $host, port $port: $!");
    listen $listener, 1024 or refuse("cannot listen on $host, port $port: $!");
    $listener->blocking(0);
    accept_again();

    my $flags = NI_NUMERICHOST | NI_NUMERICSERV;
    (undef, my $address, my $number) = getnameinfo(getsockname $listener, $flags);
    $address = "[$address]" if $address =~ /:/;
    syswrite STDOUT, NAME . " listening on $address:$number\n"
        or note("cannot tell the address on standard output: $!");
    return;
}

fill_standard_streams();
$SIG{PIPE} = 'IGNORE';
$SIG{INT} = $SIG{TERM} = sub { $stopping = 1 };
read_options(@ARGV);
$SIG{TERM} = 'DEFAULT' if $bug{'no-sigterm'};
open_listener();
serve();
stop();

# From here on Perl takes itself apart, and a second signal would find no handler.
$SIG{INT} = $SIG{TERM} = 'IGNORE';
exit 0;
