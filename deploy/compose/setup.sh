#!/bin/sh
# Makes the passwords between our own services, once, and writes them down where each is read. Nobody has to
# choose or see them; who wants others removes the files in /setup/own and starts this again.
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

# What is there is replaced as a whole: somebody may read it meanwhile.
write() { # FILE, its content on standard input
    cat >"$1.new"
    mv "$1.new" "$1"
}

hand_out() { # NAME FILE
    secret=$(password "$1")
    printf '%s' "$secret" | write "$2"
}

database_url() { # FOLDER ROLE
    secret=$(password "$2.database")
    printf 'postgres://%s:%s@postgres:5432/rota' "$2" "$secret" | write "/setup/$1/database_url"
}

chmod 700 /setup/own

# Each volume is mounted by those alone who read it.
definitions=$(cat /setup/definitions.json)
for stage in ingest router notifier; do
    amqp=$(password "rota_$stage.amqp")
    printf 'amqp://rota_%s:%s@rabbitmq:5672/%%2f' "$stage" "$amqp" | write "/setup/$stage/amqp_url"
    definitions=$(printf '%s' "$definitions" | sed "s/@rota_$stage@/$amqp/")
    database_url "$stage" "rota_$stage"
    hand_out admin_token "/setup/$stage/admin_token"
done
database_url command rota_cli
database_url owner rota_owner
for role in rota_owner rota_ingest rota_router rota_notifier rota_cli rota_exporter; do
    hand_out "$role.database" "/setup/roles/$role"
done
hand_out rota_exporter.database /setup/exporter/password
# The superuser's, with whom the image makes the cluster. They come by a socket that asks for none.
hand_out database /setup/postgres/password
hand_out grafana /setup/grafana/password
hand_out admin_token /setup/prometheus/admin_token

# Before each stage had a user of its own, `rota` was an administrator and the only one. Definitions take no user away,
# so these take their password and all their rights.
if [ -e /setup/own/amqp ]; then
    user='{ "name": "rota", "password_hash": "", "tags": "" }'
    none='{ "user": "rota", "vhost": "/", "configure": "^$", "write": "^$", "read": "^$" }'
    definitions=$(printf '%s' "$definitions" |
        sed -e "s|\"users\": \[|&\n    $user,|" -e 's|"permissions": \[|&\n    '"$none,|")
fi
rm -f /setup/rabbitmq/20-user.conf
write /setup/rabbitmq/10-rota.conf </setup/rabbitmq.conf
printf '%s\n' "$definitions" | write /setup/rabbitmq/definitions.json
echo "setup: done"
