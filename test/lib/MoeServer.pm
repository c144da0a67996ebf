# One private server for a test: started by new, gone when the object is.
#
#   my $server = MoeServer->new('name', shared_preload_libraries => 'moe_ml');
#   is($server->query('SELECT 1'), '1', 'it answers');
#   my ($status, $out, $err) = $server->psql('SELECT broken');
package MoeServer;
use strict;
use warnings;
use File::Temp qw(tempfile);
use IPC::Run qw(run);
use MoeSession;

my $script = 'test/server';

sub new
{
    my ($class, $name, %settings) = @_;
    my $self = bless { name => $name }, $class;
    system($script, 'drop', $name);
    $self->start(map { "$_=$settings{$_}" } sort keys %settings);
    return $self;
}

# A hot standby of a running server.
sub standby
{
    my ($class, $name, $primary) = @_;
    my $self = bless { name => $name }, $class;
    system($script, 'drop', $name);
    system($script, 'standby', $name, $primary->{name}) == 0 or die "standby $name did not start";
    return $self;
}

sub start
{
    my ($self, @settings) = @_;
    system($script, 'start', $self->{name}, @settings) == 0 or die "server $self->{name} did not start";
    return;
}

# mode: fast or immediate
sub stop
{
    my ($self, $mode) = @_;
    system($script, 'stop', $self->{name}, $mode // 'fast') == 0 or die "server $self->{name} did not stop";
    return;
}

sub socket_dir
{
    my ($self) = @_;
    chomp(my $dir = `$script socket $self->{name}`);
    return $dir;
}

sub bin_dir
{
    chomp(my $dir = `$script bin`);
    return $dir;
}

# The log written so far.
sub log
{
    my ($self) = @_;
    chomp(my $work = `$script work`);
    open my $file, '<', "$work/$self->{name}/log" or return '';
    local $/;
    return <$file>;
}

# Run one of PostgreSQL's programs against the server; returns (exit status, output, errors). Further input on request.
sub program
{
    my ($self, $name, $arguments, $in) = @_;
    my ($out, $err) = ('', '');
    run [ $self->bin_dir . "/$name", '-h', $self->socket_dir, '-U', 'postgres', @$arguments ], \($in // ''), \$out, \$err;
    return ($? >> 8, $out, $err);
}

# Run SQL through psql's standard input; returns (exit status, output, errors).
sub psql
{
    my ($self, $sql, @arguments) = @_;
    my ($out, $err) = ('', '');
    run [ $script, 'psql', $self->{name}, '-qAt', '-v', 'ON_ERROR_STOP=1', '-f', '-', @arguments ], \$sql, \$out, \$err;
    my $status = $? >> 8;
    chomp($out, $err);
    return ($status, $out, $err);
}

# Run SQL that must succeed; returns its output.
sub query
{
    my ($self, $sql, @arguments) = @_;
    my ($status, $out, $err) = $self->psql($sql, @arguments);
    die "query failed: $sql\n$err" if $status != 0;
    return $out;
}

# A session that stays connected; the arguments are psql's.
sub session
{
    my ($self, @arguments) = @_;
    return MoeSession->new($self, @arguments);
}

sub DESTROY
{
    my ($self) = @_;
    local $?;
    system($script, 'drop', $self->{name});
    return;
}

1;
