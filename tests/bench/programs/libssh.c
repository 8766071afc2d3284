/* Mirror / with libssh: PORT USER KEY PASSWORD INTO */
#include <fcntl.h>
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ssh_session session;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, ssh_get_error(session));
    exit(1);
}

static void fetch(sftp_session sftp, const char *from, const char *to) {
    sftp_attributes found;
    char path[4096], local[4096], data[32768];
    mkdir(to, 0755);
    sftp_dir folder = sftp_opendir(sftp, *from ? from : "/");
    if (!folder) die(from);
    while ((found = sftp_readdir(sftp, folder))) {
        snprintf(path, sizeof path, "%s/%s", from, found->name);
        snprintf(local, sizeof local, "%s/%s", to, found->name);
        if (!strcmp(found->name, ".") || !strcmp(found->name, "..")) {
        } else if (found->type == SSH_FILEXFER_TYPE_DIRECTORY) {
            fetch(sftp, path, local);
        } else {
            ssize_t size;
            sftp_file file = sftp_open(sftp, path, O_RDONLY, 0);
            int out = open(local, O_WRONLY | O_CREAT | O_TRUNC, 0644);
            if (!file || out < 0) die(path);
            while ((size = sftp_read(file, data, sizeof data)) > 0)
                if (write(out, data, size) != size) die(local);
            if (size < 0) die(path);
            close(out);
            sftp_close(file);
        }
        sftp_attributes_free(found);
    }
    sftp_closedir(folder);
}

int main(int count, char **given) {
    int strict = 0;
    session = ssh_new();
    ssh_options_set(session, SSH_OPTIONS_HOST, "127.0.0.1");
    ssh_options_set(session, SSH_OPTIONS_PORT_STR, given[1]);
    ssh_options_set(session, SSH_OPTIONS_USER, given[2]);
    ssh_options_set(session, SSH_OPTIONS_STRICTHOSTKEYCHECK, &strict);
    if (ssh_connect(session) != SSH_OK) die("connect");
    if (*given[4]) {
        if (ssh_userauth_password(session, NULL, given[4]) != SSH_AUTH_SUCCESS) die("password");
    } else {
        ssh_key key;
        if (ssh_pki_import_privkey_file(given[3], NULL, NULL, NULL, &key) != SSH_OK) die(given[3]);
        if (ssh_userauth_publickey(session, NULL, key) != SSH_AUTH_SUCCESS) die("key");
    }
    sftp_session sftp = sftp_new(session);
    if (!sftp || sftp_init(sftp) != SSH_OK) die("sftp");
    fetch(sftp, "", given[5]);
    sftp_free(sftp);
    ssh_disconnect(session);
    return 0;
}
