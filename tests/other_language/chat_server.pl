#!/usr/bin/env perl
# A chat server that was written from PROTOCOL.md alone, in another language than the four.
#
#     perl chat_server.pl [--profile chat|echo] [--port N] ... [--bug NAME]
#
# It tests the suite: it has to pass, and with --bug NAME, which plants a classic mistake, the suite
# has to name the rule that the mistake breaks. Each mistake stands where one makes it: look for
# %bug. Words like (F5) are the rules of PROTOCOL.md.
#
# One process, one select() loop, no modules but those of Debian's perl-base.

use v5.16;
use warnings;

use Errno qw(EAGAIN ECONNABORTED EINTR EWOULDBLOCK);
use Getopt::Long qw(GetOptionsFromArray);
use IO::Handle;
use POSIX ();
use Socket qw(:DEFAULT :addrinfo IPPROTO_TCP TCP_NODELAY SO_REUSEADDR SO_SNDBUF);

use constant {
    # The folder's name (H1).
    NAME => 'other_language',
    # Bytes in a line, without its ending (F2), and bytes of input in one turn (F7).
    LINE_LIMIT => 1024,
    TOO_LONG   => '! line too long (limit 1024 bytes)',
    READ_SIZE  => 16 * 1024,
    # Above the first an outbox is too full, until it has come down to the second (L3).
    HIGH_WATER => 256 * 1024,
    LOW_WATER  => 128 * 1024,
    # How long we go on reading after our last word (C4), and how long a stop may take in all (L4).
    LINGER_SECONDS => 3,
    STOP_SECONDS   => 1.5,
    # How long we compute before we look at what has come.
    SLICE_SECONDS => 0.02,
    # See wait_for_events().
    LONGEST_WAIT => 0.5,
    # select() can watch no descriptor from here on (L2).
    FD_SETSIZE => 1024,
    # See new_client().
    SEND_BUFFER => 128 * 1024,
    # Units of the clocks.
    TICKS  => POSIX::sysconf(POSIX::_SC_CLK_TCK()),
    CLOCKS => POSIX::CLOCKS_PER_SEC(),
};

my %BUGS = (
    'work-is-skipped'   => '/work is answered and not done',
    'echo-to-sender'    => 'a client that says something in a room gets it back',
    'left-twice'        => 'a client that quits has left, and has left again when it is closed',
    'no-idle-timeout'   => 'silent clients may stay',
    'half-close-closes' => 'the end of input ends all, answers that are due included',
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

# The mistake that is planted: NAME => 1.
my %bug;
my $in_chat;
my $listener;
# All connections: descriptor => client, see new_client().
my %clients;
# How many of --max-clients are taken.
my $places = 0;
# The clients that are in, by their names without regard to case (H2): fc NAME => client.
my %member;
# The clients whose outbox is too full (L3): descriptor => client.
my %too_full;
# Clients with lines to process, and how many turns there have been.
my @waiting;
my $turns = 0;
# Clients whose /work is not done. The first one's is being computed.
my @at_work;
# For select(): bit N is set when descriptor N is to be watched.
my $want_read  = '';
my $want_write = '';
# Out of descriptors: when to try again.
my $accept_at;
my $stopping = 0;
my $linger   = LINGER_SECONDS;
my $now      = seconds();

# ---- Small tools ----

# Seconds since some moment, by a clock that nobody sets. In steps of 10 ms.
sub seconds {
    return (POSIX::times())[0] / TICKS;
}

sub cpu_seconds {
    return POSIX::clock() / CLOCKS;
}

# One line for the log. One that cannot be written is lost, which is no reason to end.
sub note {
    my ($text) = @_;
    utf8::encode($text);
    syswrite STDERR, "$text\n";
}

# What an operator did wrong, in one line.
sub refuse {
    my ($text) = @_;
    note("chat_server.pl: $text");
    exit 2;
}

# Whether the call that has just failed may succeed when it is made again.
sub try_later {
    return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
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

# All connections, as a copy: some may be closed while one goes through the list.
sub everybody {
    my @all = values %clients;
    return @all;
}

# A record for a new connection. One that is refused (L2) takes no place.
sub new_client {
    my ($socket, $takes_place) = @_;
    $socket->blocking(0);
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

    # What the kernel takes for a client that does not read is bounded, too. And select() calls a
    # socket writable when a third of that buffer is free. If the buffer were large, a slow reader
    # would seem not to read for a second, and would be dropped (L3).
    setsockopt $socket, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER;
    my $client = {
        socket      => $socket,
        fd          => fileno $socket,
        takes_place => $takes_place,
        # Not before it is in (H3).
        name => undef,
        # Bytes that have been read and not yet processed, and bytes that have not yet been sent.
        inbox  => '',
        outbox => '',
        # Whether we are inside a line that is too long (F2).
        skipping => 0,
        # Whether its input has ended (L5).
        ended => 0,
        # Nothing more is processed. It is closed when all is sent.
        leaving => 0,
        closed  => 0,
        # Whether it is in @waiting; the number of its last turn, or of the last one before it came.
        queued    => 0,
        last_turn => $turns,
        # [MS, CPU seconds that are left] of its /work.
        work => undef,
        # When its last line ended (L1), when it last took some of its output, when its outbox
        # became too full, and when, in leaving, the last of its output was sent.
        last_line  => $now,
        last_taken => $now,
        full_since => undef,
        last_word  => undef,
    };
    $clients{ $client->{fd} } = $client;
    $places++ if $takes_place;
    watch_input($client);
    return $client;
}

sub accept_clients {
    for (1 .. 100) {
        if (!accept my $socket, $listener) {
            return if try_later() || $! == ECONNABORTED;

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
}

sub accept_again {
    vec($want_read, fileno $listener, 1) = 1 if !$stopping;
}

# Watch a client's input, unless there is nothing to come, or no room for it.
sub watch_input {
    my ($client) = @_;
    my $useful = !$client->{ended} && ($client->{leaving} || room_for_input($client) > 0);
    vec($want_read, $client->{fd}, 1) = $useful ? 1 : 0;
}

# A client goes, for whatever reason: its name is free, and the others hear of it, each exactly once
# (H5, D3).
sub take_out {
    my ($client) = @_;
    my $name = $client->{name};
    return if !defined $name;
    $client->{name} = undef unless $bug{'left-twice'} && !$client->{closed};
    delete $member{ fc $name };
    note("$name left");
    if ($in_chat) {
        send_line($_, "* $name left") for values %member;
    }
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
}

# A client that is leaving has been sent everything. To close while it still sends would cause a
# reset, which may destroy our last words on their way. So we end our direction, and wait for the
# end of its own.
sub after_last_word {
    my ($client) = @_;
    return close_client($client) if $client->{ended};
    shutdown $client->{socket}, 1;
    $client->{last_word} = $now;
}

sub close_client {
    my ($client) = @_;
    return if $client->{closed};
    $client->{closed} = 1;
    stop_work($client);
    delete $clients{ $client->{fd} };
    no_longer_full($client);
    vec($want_read,  $client->{fd}, 1) = 0;
    vec($want_write, $client->{fd}, 1) = 0;
    close $client->{socket};
    $places-- if $client->{takes_place};
    take_out($client);
    accept_again();
}

# ---- Output ----

# Put one line into a client's outbox.
sub send_line {
    my ($client, $line) = @_;
    return if $client->{leaving} || $client->{closed};
    utf8::encode($line);
    $client->{outbox} .= "$line\n";
    vec($want_write, $client->{fd}, 1) = 1;
    if (length $client->{outbox} > HIGH_WATER && !$too_full{ $client->{fd} }) {
        $too_full{ $client->{fd} } = $client;
        $client->{full_since} = $client->{last_taken} = $now;
    }
}

# A client that held up others, or itself, does so no longer. No client could be heard meanwhile, so
# none has been idle (L1).
sub no_longer_full {
    my ($client) = @_;
    return if !delete $too_full{ $client->{fd} };
    if ($in_chat && !%too_full) {
        $_->{last_line} = $now for values %clients;
    }
}

# Send as much as the kernel takes, which may be a part of it.
sub send_output {
    my ($client) = @_;
    my $sent = syswrite $client->{socket}, $client->{outbox};
    if (!defined $sent) {
        # A reset, or any other error, ends that connection only (L6).
        return try_later() || close_client($client);
    }
    $client->{last_taken} = $now;
    substr($client->{outbox}, 0, $sent) = '';
    no_longer_full($client) if length $client->{outbox} <= LOW_WATER;
    if ($client->{outbox} eq '') {
        vec($want_write, $client->{fd}, 1) = 0;
        after_last_word($client) if $client->{leaving};
    }
}

# ---- Input ----

sub room_for_input {
    my ($client) = @_;
    return READ_SIZE - length $client->{inbox};
}

# Read what has come. Whether it makes lines is seen in the client's turn: how the bytes come in
# pieces means nothing (F5).
sub read_input {
    my ($client) = @_;
    my $size = $client->{leaving} ? READ_SIZE : room_for_input($client);
    my $got  = sysread($client->{socket}, my $data, $size);
    if (!defined $got) {
        return try_later() || close_client($client);
    }
    return end_input($client) if $got == 0;

    # What was sent after /quit is ignored (C4).
    return if $client->{leaving};

    # The bytes of a line that is too long are thrown away as they arrive, up to its LF (F2).
    $data =~ s/\A[^\n]+// if $client->{skipping};
    $client->{inbox} .= $data;
    watch_input($client);
    queue($client) if has_line($client);
}

# Every complete line is still processed and answered (L5). What follows the last LF is none (F3).
sub end_input {
    my ($client) = @_;
    $client->{ended} = 1;
    watch_input($client);
    return close_client($client) if $bug{'half-close-closes'};
    queue($client);
    close_client($client) if $client->{leaving} && $client->{outbox} eq '';
}

# Whether something is to be done in this client's turn. That a line is too long is known before it
# ends: when more bytes wait than a line and its CR have (F2).
sub has_line {
    my ($client) = @_;
    return index($client->{inbox}, "\n") >= 0 || length $client->{inbox} > LINE_LIMIT + 1;
}

# Take the first line from the inbox and process it; returns whether there was one.
sub process_a_line {
    my ($client) = @_;
    return 0 if !has_line($client);
    my $end = index $client->{inbox}, "\n";
    if ($end < 0) {
        send_line($client, TOO_LONG);
        $client->{skipping} = 1;
        $client->{inbox}    = '';
        return 1;
    }
    my $line = substr $client->{inbox}, 0, $end + 1, '';
    $line =~ s/\r?\n\z//;
    $client->{last_line} = $now;
    process_bytes($client, $line) if !$client->{skipping};
    $client->{skipping} = 0;
    return 1;
}

# A line without its ending, still bytes (F2, F4, F6).
sub process_bytes {
    my ($client, $bytes) = @_;
    return send_line($client, TOO_LONG) if length $bytes > LINE_LIMIT;
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
}

# ---- Turns ----

# A client has something to process: it gets in line (F7).
sub queue {
    my ($client) = @_;
    return if $client->{queued} || $client->{leaving} || $client->{closed};
    $client->{queued} = 1;
    push @waiting, $client;
}

# Whether no line of this client may be processed, since it could add to an outbox that is too full
# (L3). In the chat profile that is everybody's line.
sub is_held {
    my ($client) = @_;
    return $in_chat ? !!%too_full : !!$too_full{ $client->{fd} };
}

# One turn for each client that has lines, beginning with the one whose last turn is longest ago.
# When this has taken a while, the rest wait for the next round: answers must go out.
sub give_turns {
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
        last if !process_a_line($client);
    }
    return 0 if $client->{leaving} || $client->{closed} || $client->{work};
    watch_input($client);
    return 1 if has_line($client);
    leave($client) if $client->{ended} && !$stopping;
    return 0;
}

# ---- Handshake, commands, delivery ----

# A first line is a name, or asks for one (H2 to H5), unless it comes from a browser (H6). Python's
# \w stands for letters and numbers of all scripts, and the underscore. Perl's stands for more.
sub enter {
    my ($client, $name) = @_;
    if ($name =~ m{\A(?:[A-Z]+ .* HTTP/[0-9.]+|[Hh]ost:.*)\z}) {
        send_line($client, '! this is not a web server');
        return leave($client);
    }
    if ($name eq '') {
        my $number = 1;
        $number++ while $member{ fc "guest$number" };
        $name = "guest$number";
    }
    return send_line($client, '! invalid name (1-20 letters, digits, _ or -)')
        if $name !~ /\A[\p{L}\p{N}_-]{1,20}\z/;
    return send_line($client, "! name $name is taken") if $member{ fc $name };
    $client->{name} = $name;
    $member{ fc $name } = $client;
    note("$name joined");
    send_line($client, "* hello $name");
    to_the_others($client, "* $name joined") if $in_chat;
}

sub command {
    my ($client, $text) = @_;
    my ($word, $rest) = split / /, $text, 2;
    $rest //= '';
    $rest =~ s/\A\s+//;
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
}

# (C7)
sub private_message {
    my ($client, $rest) = @_;
    my ($name, $text) = split / /, $rest, 2;
    return send_line($client, '! usage: /pm NAME TEXT') if !defined $text;
    my $recipient = $member{ fc $name };
    return send_line($client, "! no such user: $name") if !$recipient;
    $text =~ s/\A\s+//;
    send_line($recipient, "@" . "$client->{name}: $text");
}

# (D1, D2)
sub say_text {
    my ($client, $text) = @_;
    my $line = "$client->{name}: $text";
    to_the_others($client, $line) if $in_chat;
    send_line($client, $line) if !$in_chat || $bug{'echo-to-sender'};
}

sub to_the_others {
    my ($client, $line) = @_;
    for my $other (values %member) {
        send_line($other, $line) if $other != $client;
    }
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
}

# Compute for a moment, one client's work after the other's. Between two slices all other clients
# have their turns, and a stop is noticed.
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
}

sub stop_work {
    my ($client) = @_;
    return if !$client->{work};
    @at_work = grep { $_ != $client } @at_work;
    $client->{work} = undef;
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
}

sub time_out {
    my ($client) = @_;
    send_line($client, '! idle timeout');
    leave($client);
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
# wait does not end the wait, so no wait is long.
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
}

sub serve {
    my $wait = 0;
    while (!$stopping) {
        wait_for_events($wait);
        give_turns();
        compute_a_slice();
        $wait = look_at_clocks();
        $wait = 0 if @at_work || grep { !is_held($_) } @waiting;
    }
}

# (L4)
sub stop {
    vec($want_read, fileno $listener, 1) = 0;
    close $listener;
    $listener = undef;
    $linger   = LONGEST_WAIT;
    for my $client (everybody()) {
        send_line($client, '* server shutting down');

        # Nobody is told who else leaves, but the log is.
        note("$client->{name} left") if defined $client->{name};
        $client->{name} = undef;
        leave($client);
    }
    my $end = $now + STOP_SECONDS;
    while (%clients && $now < $end) {
        wait_for_events(0.05);
        look_at_clocks();
    }
    note('stopped');
}

# A socket in the place of a closed standard stream would get what is written to that stream.
sub fill_standard_streams {
    my $fd = 0;
    $fd = POSIX::open('/dev/null', POSIX::O_RDWR()) while defined $fd && $fd <= 2;
    POSIX::close($fd) if defined $fd;
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
}

# Bind, listen, and say so on standard output.
sub open_listener {
    my ($host, $port) = @option{ 'host', 'port' };
    my $hints = { flags => AI_PASSIVE, socktype => SOCK_STREAM };
    my ($error, @addresses) = getaddrinfo($host, $port, $hints);
    refuse("cannot listen on host $host: $error") if $error || !@addresses;
    my $first = $addresses[0];
    socket $listener, $first->{family}, SOCK_STREAM, $first->{protocol}
        or refuse("cannot make a socket: $!");
    setsockopt $listener, SOL_SOCKET, SO_REUSEADDR, 1;
    bind $listener, $first->{addr} or refuse("cannot listen on $host, port $port: $!");
    listen $listener, 1024 or refuse("cannot listen on $host, port $port: $!");
    $listener->blocking(0);
    accept_again();

    my $flags = NI_NUMERICHOST | NI_NUMERICSERV;
    (undef, my $address, my $number) = getnameinfo(getsockname $listener, $flags);
    $address = "[$address]" if $address =~ /:/;
    syswrite STDOUT, NAME . " listening on $address:$number\n"
        or note("cannot tell the address on standard output: $!");
}

fill_standard_streams();
$SIG{PIPE} = 'IGNORE';
$SIG{INT} = $SIG{TERM} = sub { $stopping = 1 };
read_options(@ARGV);
open_listener();
serve();
stop();

# From here on Perl takes itself apart, and a second signal would find no handler.
$SIG{INT} = $SIG{TERM} = 'IGNORE';
exit 0;
