#!/bin/sh
# Makes the passwords between our own services, once, and writes them down where each is read. Nobody has to
# choose or see them; who wants others replaces the files in /setup/own and starts this again.
set -eu
umask 022

password() { # NAME
    if [ ! -s "/setup/own/$1" ]; then
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"/setup/own/$1.new"
        mv "/setup/own/$1.new" "/setup/own/$1"
        echo "setup: a new password: $1" >&2
    fi
    cat "/setup/own/$1"
}

chmod 700 /setup/own
amqp=$(password amqp)
database=$(password database)
grafana=$(password grafana)

# Each volume is mounted by those alone who read it.
printf 'amqp://rota:%s@rabbitmq:5672/%%2f' "$amqp" >/setup/stages/amqp_url
printf 'postgres://rota:%s@postgres:5432/rota' "$database" >/setup/stages/database_url
printf '%s' "$database" >/setup/postgres/password
printf '%s' "$grafana" >/setup/grafana/password
cp /setup/rabbitmq.conf /setup/rabbitmq/10-rota.conf
cat >/setup/rabbitmq/20-user.conf <<CONF
default_user = rota
default_pass = $amqp
default_user_tags.administrator = true
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
CONF
echo "setup: done"
