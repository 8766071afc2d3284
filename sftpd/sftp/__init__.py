"""The SFTP protocol in a child: the verbs, and the view of a party's tree."""
