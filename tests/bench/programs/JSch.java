// Mirror / with JSch: PORT USER KEY PASSWORD INTO [SETTING=VALUE...]
import com.jcraft.jsch.*;
import java.io.File;
import java.util.*;

class Mirror {
    public static void main(String[] given) throws Exception {
        JSch jsch = new JSch();
        if (given[3].isEmpty()) jsch.addIdentity(given[2]);
        Session session = jsch.getSession(given[1], "127.0.0.1", Integer.parseInt(given[0]));
        if (!given[3].isEmpty()) session.setPassword(given[3]);
        session.setConfig("StrictHostKeyChecking", "no");
        for (int i = 5; i < given.length; i++) session.setConfig(given[i].split("=")[0], given[i].split("=", 2)[1]);
        session.connect(30000);
        ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
        sftp.connect(30000);
        fetch(sftp, "", new File(given[4]));
        session.disconnect();
    }

    static void fetch(ChannelSftp sftp, String from, File to) throws Exception {
        to.mkdir();
        for (Object each : sftp.ls(from + "/")) {
            ChannelSftp.LsEntry entry = (ChannelSftp.LsEntry) each;
            String name = entry.getFilename();
            if (name.equals(".") || name.equals("..")) continue;
            if (entry.getAttrs().isDir()) fetch(sftp, from + "/" + name, new File(to, name));
            else sftp.get(from + "/" + name, new File(to, name).getPath());
        }
    }
}
