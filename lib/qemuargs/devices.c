/* SPDX-License-Identifier: Apache-2.0 */
/* Monitors, console, guest agent, random numbers, networks. */
#include "qemuargs/internal.h"

static void add_socket(LpmQemuArgs *args, const char *id, const char *path, const char *log)
{
    g_autofree char *quoted = lpm_qemu_quote(path);
    g_autofree char *quoted_log = log ? lpm_qemu_quote(log) : NULL;

    lpm_qemu_addf(args, "-chardev", "socket,id=%s,path=%s,server=on,wait=off%s%s%s", id, quoted,
                  log ? ",logfile=" : "", log ? quoted_log : "", log ? ",logappend=on" : "");
}

void lpm_qemu_add_monitors(LpmQemuArgs *args)
{
    add_socket(args, "qmp", args->spec->qmp_socket, NULL);
    lpm_qemu_addf(args, "-mon", "chardev=qmp,mode=control");
    if (args->spec->oob_socket) {
        add_socket(args, "oob", args->spec->oob_socket, NULL);
        lpm_qemu_addf(args, "-mon", "chardev=oob,mode=control");
    }
}

void lpm_qemu_add_console(LpmQemuArgs *args)
{
    if (!args->spec->profile->console) {
        return;
    }
    add_socket(args, "console", args->spec->console_socket, args->spec->console_log);
    if (args->spec->profile->family == LPM_FAMILY_POWER) {
        /* The machine places its own virtual terminal; a device with an address of ours collides
         * with its NVRAM. */
        lpm_qemu_addf(args, "-serial", "chardev:console");
    } else {
        lpm_qemu_addf(args, "-device", "isa-serial,id=serial0,chardev=console");
    }
}

void lpm_qemu_add_agent(LpmQemuArgs *args)
{
    if (!args->spec->profile->guest_agent) {
        return;
    }
    lpm_qemu_addf(args, "-device", "virtio-serial-pci,id=vserial,bus=%s,addr=0x%x", args->bus,
                  LPM_QEMU_SLOT_SERIAL);
    add_socket(args, "agent", args->spec->agent_socket, NULL);
    lpm_qemu_addf(args, "-device",
                  "virtserialport,id=agentport,bus=vserial.0,nr=1,chardev=agent,"
                  "name=org.qemu.guest_agent.0");
}

void lpm_qemu_add_random(LpmQemuArgs *args)
{
    lpm_qemu_addf(args, "-object", "rng-random,id=rng0,filename=/dev/urandom");
    lpm_qemu_addf(args, "-device", "virtio-rng-pci,id=dev-rng0,rng=rng0,bus=%s,addr=0x%x",
                  args->bus, LPM_QEMU_SLOT_RNG);
}

static void add_adapter(LpmQemuArgs *args, size_t i, const LpmNetwork *network)
{
    if (network->adapter == LPM_NET_SPAPR_VLAN) {
        lpm_qemu_addf(args, "-device", "spapr-vlan,id=dev-net%zu,netdev=net%zu,mac=%s,reg=0x%x", i,
                      i, network->mac, LPM_QEMU_REG_NETWORK + (unsigned)i);
        return;
    }
    /* No network boot: its ROM is part of the migrated state, and not every build has it. */
    lpm_qemu_addf(args, "-device",
                  "virtio-net-pci,id=dev-net%zu,netdev=net%zu,mac=%s,bus=%s,addr=0x%x,romfile=", i,
                  i, network->mac, args->bus, LPM_QEMU_SLOT_NETWORK + (unsigned)i);
}

void lpm_qemu_add_networks(LpmQemuArgs *args)
{
    const LpmProfile *profile = args->spec->profile;

    for (size_t i = 0; i < profile->n_networks; i++) {
        lpm_qemu_addf(args, "-netdev", "tap,id=net%zu,fd=%d,vhost=off", i,
                      args->spec->network_fds[i]);
        add_adapter(args, i, &profile->networks[i]);
    }
}
