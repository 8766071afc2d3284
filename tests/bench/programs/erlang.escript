#!/usr/bin/env escript
%% Mirror / with Erlang's ssh_sftp: PORT USER KEYFOLDER PASSWORD INTO
main([Port, User, Keys, Password, Into]) ->
    {ok, _} = application:ensure_all_started(ssh),
    Proof = case Password of
        "" -> [{user_dir, Keys}, {auth_methods, "publickey"}];
        _ -> [{password, Password}, {user_dir, Into ++ "/.."}, {auth_methods, "password"}]
    end,
    Options = [{user, User}, {silently_accept_hosts, true}, {save_accepted_host, false},
               {user_interaction, false} | Proof],
    {ok, Sftp, Connection} = ssh_sftp:start_channel("127.0.0.1", list_to_integer(Port), Options),
    fetch(Sftp, "", Into),
    ok = ssh:close(Connection).

fetch(Sftp, From, To) ->
    _ = file:make_dir(To),
    {ok, Names} = ssh_sftp:list_dir(Sftp, From ++ "/"),
    [one(Sftp, From ++ "/" ++ Name, To ++ "/" ++ Name) || Name <- Names, Name =/= ".", Name =/= ".."].

one(Sftp, From, To) ->
    {ok, Info} = ssh_sftp:read_file_info(Sftp, From),
    case element(3, Info) of
        directory -> fetch(Sftp, From, To);
        regular ->
            {ok, Content} = ssh_sftp:read_file(Sftp, From),
            ok = file:write_file(To, Content)
    end.
